//! Conditions and updates on an item.

use crate::digest::base64_decode;
use crate::expression::{invalid, Action, Condition, Fallible, Operand, Path};
use crate::json::{Value, NULL};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Attribute values are in wire form: {"S": "..."}.
pub type Item = BTreeMap<String, Value>;

/// An attribute's new value, or None where it goes.
pub type Change<'a> = (Path<'a>, Option<Value>);

pub fn holds(condition: &Condition, item: &Item) -> Fallible<bool> {
    Ok(match condition {
        Condition::Or(left, right) => holds(left, item)? || holds(right, item)?,
        Condition::And(left, right) => holds(left, item)? && holds(right, item)?,
        Condition::Not(inner) => !holds(inner, item)?,
        Condition::Exists(path) => lookup(item, path).is_some(),
        Condition::NotExists(path) => lookup(item, path).is_none(),
        Condition::Compare(left, sign, right) => {
            compares(resolve(left, item)?.as_deref(), sign, resolve(right, item)?.as_deref())
        }
        Condition::Between(value, low, high) => {
            let value = resolve(value, item)?;
            compares(value.as_deref(), ">=", resolve(low, item)?.as_deref())
                && compares(value.as_deref(), "<=", resolve(high, item)?.as_deref())
        }
        Condition::In(value, others) => {
            let value = resolve(value, item)?;
            for other in others {
                if compares(value.as_deref(), "=", resolve(other, item)?.as_deref()) {
                    return Ok(true);
                }
            }
            false
        }
        Condition::BeginsWith(left, right) => both_texts(left, right, item, |text, start| text.starts_with(start))?,
        Condition::Contains(left, right) => both_texts(left, right, item, |text, part| text.contains(part))?,
    })
}

fn both_texts(left: &Operand, right: &Operand, item: &Item, test: fn(&str, &str) -> bool) -> Fallible<bool> {
    let (left, right) = (resolve(left, item)?, resolve(right, item)?);
    Ok(match (left.as_deref().map(split), right.as_deref().map(split)) {
        (Some(("S", Value::Text(text))), Some(("S", Value::Text(other)))) => test(text, other),
        _ => false,
    })
}

/// A comparison with an attribute that is absent, or of another type, is false; only <> is true then.
fn compares(left: Option<&Value>, sign: &str, right: Option<&Value>) -> bool {
    let (Some(left), Some(right)) = (left, right) else { return sign == "<>" && left.is_some() != right.is_some() };
    if matches!(sign, "=" | "<>") {
        return equal(left, right) == (sign == "=");
    }
    match order(left, right) {
        None => false,
        Some(order) => match sign {
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            _ => order.is_ge(),
        },
    }
}

/// The type and the inner value of {"S": "..."}.
fn split(value: &Value) -> (&str, &Value) {
    match value {
        Value::Map(pairs) if pairs.len() == 1 => (pairs[0].0.as_str(), &pairs[0].1),
        _ => ("", &NULL),
    }
}

pub fn equal(left: &Value, right: &Value) -> bool {
    let ((kind, inner), (other, other_inner)) = (split(left), split(right));
    if kind != other {
        return false;
    }
    match (kind, inner, other_inner) {
        ("N", Value::Text(one), Value::Text(two)) => number_order(one, two) == Some(Ordering::Equal),
        ("M", Value::Map(one), Value::Map(two)) => {
            one.len() == two.len()
                && one.iter().all(|(name, value)| other_inner.get(name).is_some_and(|found| equal(value, found)))
        }
        ("L", Value::List(one), Value::List(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(value, found)| equal(value, found))
        }
        ("SS" | "NS" | "BS", Value::List(one), Value::List(two)) => {
            one.len() == two.len() && one.iter().all(|value| two.contains(value))
        }
        _ => inner == other_inner,
    }
}

pub fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (split(left), split(right)) {
        (("S", Value::Text(one)), ("S", Value::Text(two))) => Some(one.as_bytes().cmp(two.as_bytes())),
        (("N", Value::Text(one)), ("N", Value::Text(two))) => number_order(one, two),
        (("B", Value::Text(one)), ("B", Value::Text(two))) => Some(base64_decode(one)?.cmp(&base64_decode(two)?)),
        _ => None,
    }
}

fn number_order(left: &str, right: &str) -> Option<Ordering> {
    match (left.parse::<i128>(), right.parse::<i128>()) {
        (Ok(one), Ok(two)) => Some(one.cmp(&two)),
        _ => left.parse::<f64>().ok()?.partial_cmp(&right.parse::<f64>().ok()?),
    }
}

pub fn lookup<'v>(item: &'v Item, path: &Path) -> Option<&'v Value> {
    let mut value = item.get(path[0])?;
    for name in &path[1..] {
        value = value.get("M")?.get(name)?;
    }
    Some(value)
}

fn resolve<'v>(operand: &'v Operand, item: &'v Item) -> Fallible<Option<Cow<'v, Value>>> {
    Ok(match operand {
        Operand::Path(path) => lookup(item, path).map(Cow::Borrowed),
        Operand::Value(value) => Some(Cow::Borrowed(value.as_ref())),
        Operand::Size(path) => lookup(item, path).map(|value| Cow::Owned(number(size(value).to_string()))),
        Operand::IfNotExists(path, other) => match lookup(item, path) {
            Some(value) => Some(Cow::Borrowed(value)),
            None => resolve(other, item)?,
        },
        Operand::Sum(left, right) => Some(Cow::Owned(computed(left, right, item, 1)?)),
        Operand::Difference(left, right) => Some(Cow::Owned(computed(left, right, item, -1)?)),
    })
}

fn number(text: String) -> Value {
    Value::Map(vec![("N".to_string(), Value::Text(text))])
}

fn size(value: &Value) -> usize {
    match split(value) {
        ("B", Value::Text(text)) => base64_decode(text).map_or(0, |bytes| bytes.len()),
        (_, Value::Text(text)) => text.len(),
        (_, Value::List(values)) => values.len(),
        (_, Value::Map(pairs)) => pairs.len(),
        _ => 0,
    }
}

fn computed(left: &Operand, right: &Operand, item: &Item, sign: i128) -> Fallible<Value> {
    let (Some(left), Some(right)) = (resolve(left, item)?, resolve(right, item)?) else {
        return invalid("The provided expression refers to an attribute that does not exist in the item");
    };
    match (split(&left), split(&right)) {
        (("N", Value::Text(one)), ("N", Value::Text(two))) => Ok(number(match (one.parse::<i128>(), two.parse::<i128>()) {
            (Ok(one), Ok(two)) => (one + sign * two).to_string(),
            _ => (one.parse::<f64>().unwrap_or(0.0) + sign as f64 * two.parse::<f64>().unwrap_or(0.0)).to_string(),
        })),
        _ => invalid("An operand in the update expression has an incorrect data type"),
    }
}

/// What an update does to an item: everything is read before anything is written.
pub fn changes<'a>(actions: &[Action<'a>], item: &Item, key: &str) -> Fallible<Vec<Change<'a>>> {
    let mut out: Vec<Change> = Vec::with_capacity(actions.len());
    for action in actions {
        let path = action.path().clone();
        if path[0] == key {
            return invalid(format!(
                "One or more parameter values were invalid: Cannot update attribute {}. This attribute is part of the key",
                key
            ));
        }
        if out.iter().any(|(other, _)| other.starts_with(&path) || path.starts_with(other)) {
            return invalid(format!(
                "Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of \
                 these paths; path one: [{0}], path two: [{0}]",
                path.join(", ")
            ));
        }
        if path.len() > 1 && lookup(item, &path[..path.len() - 1].to_vec()).and_then(|value| value.get("M")).is_none() {
            return invalid("The document path provided in the update expression is invalid for update");
        }
        let value = match action {
            Action::Remove(_) => None,
            Action::Set(_, operand) => match resolve(operand, item)? {
                None => return invalid("The provided expression refers to an attribute that does not exist in the item"),
                Some(value) => Some(normal(value.into_owned())),
            },
            Action::Add(path, operand) if lookup(item, path).is_some() => {
                Some(computed(&Operand::Path(path.clone()), operand, item, 1)?)
            }
            Action::Add(_, operand) => resolve(operand, item)?.map(Cow::into_owned),
        };
        out.push((path, value));
    }
    Ok(out)
}

pub fn apply(changes: Vec<Change>, item: &mut Item) {
    for (path, value) in changes {
        if path.len() == 1 {
            match value {
                Some(value) => item.insert(path[0].to_string(), value),
                None => item.remove(path[0]),
            };
            continue;
        }
        let last = path[path.len() - 1];
        let Some(Value::Map(pairs)) = parent(item, &path) else { continue };
        pairs.retain(|(name, _)| name != last);
        if let Some(value) = value {
            pairs.push((last.to_string(), value));
        }
    }
}

fn parent<'v>(item: &'v mut Item, path: &Path) -> Option<&'v mut Value> {
    fn inner(value: &mut Value) -> Option<&mut Value> {
        match value {
            Value::Map(pairs) => pairs.iter_mut().find(|(name, _)| name == "M").map(|(_, value)| value),
            _ => None,
        }
    }
    let mut value = inner(item.get_mut(path[0])?)?;
    for step in &path[1..path.len() - 1] {
        let Value::Map(pairs) = value else { return None };
        value = inner(pairs.iter_mut().find(|(name, _)| name == step).map(|(_, value)| value)?)?;
    }
    Some(value)
}

/// Numbers as DynamoDB gives them back: no exponent, no zeros that say nothing.
pub fn normal(value: Value) -> Value {
    match value {
        Value::Map(pairs) if pairs.len() == 1 => Value::Map(
            pairs
                .into_iter()
                .map(|(kind, inner)| {
                    let inner = match (kind.as_str(), inner) {
                        ("N", Value::Text(text)) => Value::Text(plain(text)),
                        ("M", Value::Map(map)) => {
                            Value::Map(map.into_iter().map(|(name, one)| (name, normal(one))).collect())
                        }
                        ("L", Value::List(list)) => Value::List(list.into_iter().map(normal).collect()),
                        (_, other) => other,
                    };
                    (kind, inner)
                })
                .collect(),
        ),
        other => other,
    }
}

fn plain(text: String) -> String {
    if text.parse::<i128>().is_ok_and(|number| number.to_string() == text) {
        return text;
    }
    text.parse::<f64>().map_or(text, |number| number.to_string())
}
