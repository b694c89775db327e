//! Tables of items: conditional writes are atomic for each item, as in DynamoDB.

use crate::evaluate::{apply, changes, equal, holds, lookup, normal, order, Change, Item};
use crate::expression::{invalid, Action, Binding, Condition, Failure, Fallible, Parser, Placeholders};
use crate::json::{write_pairs, Value};
use crate::measure::{shard_of, shards, Measure};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

const TERMINAL: [&str; 3] = ["SUCCEEDED", "FAILED", "CANCELLED"];
/// What a second terminal write would overwrite.
const OUTCOME: [&str; 5] = ["status", "result", "resultLocation", "error", "finishedAt"];
const LARGEST_ITEM: usize = 400 * 1024;

#[derive(Default)]
pub struct Stored {
    item: Option<Item>,
    /// How often each generation of the job was given an outcome; more than once is a broken guarantee.
    outcomes: Vec<(String, u64)>,
}

pub struct Table {
    key: String,
    indexes: HashMap<String, Option<String>>,
    description: Value,
    rows: Vec<Mutex<HashMap<String, Stored>>>,
}

pub struct Database {
    tables: RwLock<HashMap<String, Arc<Table>>>,
    measure: Arc<Measure>,
}

/// Which attributes a write gives back.
#[derive(Clone, Copy, PartialEq)]
pub enum Returned {
    Nothing,
    Old,
    New,
}

pub fn returned(word: &str) -> Fallible<Returned> {
    match word {
        "" | "NONE" => Ok(Returned::Nothing),
        "ALL_OLD" => Ok(Returned::Old),
        "ALL_NEW" => Ok(Returned::New),
        _ => invalid(format!("the stand-in has no ReturnValues {}", word)),
    }
}

pub struct Write<'a> {
    pub key: &'a Value,
    pub actions: Vec<Action<'a>>,
    pub condition: Option<Condition<'a>>,
    pub returned: Returned,
    pub old_on_failure: bool,
    /// PartiQL's UPDATE does not make an item.
    pub must_exist: bool,
}

pub fn json_of(item: &Item) -> String {
    let mut out = String::with_capacity(1024);
    write_pairs(item.iter().map(|(name, value)| (name.as_str(), value)), &mut out);
    out
}

fn key_text(value: &Value) -> Fallible<&str> {
    match value {
        Value::Map(pairs) if pairs.len() == 1 && matches!(pairs[0].0.as_str(), "S" | "N" | "B") => {
            match pairs[0].1.as_text() {
                None | Some("") => invalid("One or more parameter values are not valid: an empty key"),
                Some(text) => Ok(text),
            }
        }
        _ => invalid("The provided key element does not match the schema"),
    }
}

fn refused(item: Option<&Item>, wanted: bool) -> Failure {
    Failure {
        code: "ConditionalCheckFailedException",
        message: "The conditional request failed".to_string(),
        item: item.filter(|_| wanted).map(json_of),
    }
}

impl Table {
    fn key_of<'a>(&self, key: &'a Value) -> Fallible<&'a Value> {
        match key {
            Value::Map(pairs) if pairs.len() == 1 && pairs[0].0 == self.key => Ok(&pairs[0].1),
            _ => invalid("The provided key element does not match the schema"),
        }
    }

    pub fn key_name(&self) -> &str {
        &self.key
    }

    /// The attributes asked for, as JSON, after an update whose condition holds.
    pub fn update(&self, write: Write, measure: &Measure) -> Fallible<Option<String>> {
        let id = key_text(write.key)?;
        let mut rows = self.rows[shard_of(id)].lock().unwrap();
        let empty = Item::new();
        let found = rows.get(id).and_then(|stored| stored.item.as_ref());
        let old = found.unwrap_or(&empty);
        let fits = write.condition.as_ref().map_or(Ok(true), |condition| holds(condition, old))?;
        if !fits || (write.must_exist && found.is_none()) {
            return Err(refused(found, write.old_on_failure));
        }
        let changes = changes(&write.actions, old, &self.key)?;
        let before = found.filter(|_| write.returned == Returned::Old).map(json_of);
        let outcome = gives_outcome(&changes, old);
        let stored = rows.entry(id.to_string()).or_default();
        let item = stored.item.get_or_insert_with(|| Item::from([(self.key.clone(), write.key.clone())]));
        apply(changes, item);
        let after = (write.returned == Returned::New).then(|| json_of(item));
        if outcome {
            count_outcome(stored, id, measure);
        }
        Ok(before.or(after))
    }

    /// Replaces the item; the old one is the answer, as JSON.
    pub fn put(&self, item: Item, condition: Option<Condition>, old_wanted: bool, measure: &Measure) -> Fallible<Option<String>> {
        let Some(key) = item.get(&self.key).cloned() else {
            return invalid(format!("One or more parameter values were invalid: Missing the key {} in the item", self.key));
        };
        let id = key_text(&key)?;
        let mut rows = self.rows[shard_of(id)].lock().unwrap();
        let empty = Item::new();
        let found = rows.get(id).and_then(|stored| stored.item.as_ref());
        if let Some(condition) = condition {
            if !holds(&condition, found.unwrap_or(&empty))? {
                return Err(refused(found, old_wanted));
            }
        }
        let before = found.map(json_of);
        let stored = rows.entry(id.to_string()).or_default();
        let ended = is_terminal(item.get("status"));
        stored.item = Some(item);
        if ended {
            count_outcome(stored, id, measure);
        }
        Ok(before)
    }

    pub fn read<T>(&self, key: &Value, use_item: impl FnOnce(Option<&Item>) -> T) -> Fallible<T> {
        let id = key_text(key)?;
        let rows = self.rows[shard_of(id)].lock().unwrap();
        Ok(use_item(rows.get(id).and_then(|stored| stored.item.as_ref())))
    }

    fn all(&self, filter: &Option<Condition>) -> Fallible<Vec<Item>> {
        let mut out = Vec::new();
        for shard in &self.rows {
            for stored in shard.lock().unwrap().values() {
                let Some(item) = &stored.item else { continue };
                if filter.as_ref().map_or(Ok(true), |filter| holds(filter, item))? {
                    out.push(item.clone());
                }
            }
        }
        Ok(out)
    }
}

fn is_terminal(status: Option<&Value>) -> bool {
    status.is_some_and(|status| TERMINAL.contains(&status.text("S")))
}

fn gives_outcome(changes: &[Change], old: &Item) -> bool {
    let status = changes.iter().find(|(path, _)| path[0] == "status").map(|(_, value)| value.as_ref());
    if !is_terminal(status.unwrap_or(old.get("status"))) {
        return false;
    }
    changes.iter().any(|(path, value)| {
        OUTCOME.contains(&path[0])
            && match (lookup(old, path), value) {
                (None, None) => false,
                (Some(was), Some(now)) => !equal(was, now),
                _ => true,
            }
    })
}

fn count_outcome(stored: &mut Stored, id: &str, measure: &Measure) {
    let generation = stored.item.as_ref().and_then(|item| item.get("generation")).map_or("1", |value| value.text("N"));
    let generation = generation.to_string();
    if stored.outcomes.is_empty() {
        measure.finished(id);
    }
    match stored.outcomes.iter_mut().find(|(one, _)| *one == generation) {
        Some((_, count)) => *count += 1,
        None => stored.outcomes.push((generation, 1)),
    }
}

impl Database {
    pub fn new(measure: Arc<Measure>) -> Database {
        Database { tables: RwLock::default(), measure }
    }

    pub fn measure(&self) -> &Measure {
        &self.measure
    }

    pub fn table(&self, name: &str) -> Fallible<Arc<Table>> {
        // A table may be named by its ARN.
        let name = name.rsplit('/').next().unwrap_or(name);
        self.tables.read().unwrap().get(name).cloned().ok_or_else(|| Failure {
            code: "ResourceNotFoundException",
            message: "Requested resource not found".to_string(),
            item: None,
        })
    }

    pub fn clear(&self) {
        for table in self.tables.read().unwrap().values() {
            table.rows.iter().for_each(|shard| shard.lock().unwrap().clear());
        }
    }

    /// How many jobs have an outcome, and those that were given one twice in a generation.
    pub fn history(&self) -> String {
        let (mut ended, mut twice) = (0, Vec::new());
        for table in self.tables.read().unwrap().values() {
            for shard in &table.rows {
                for (id, stored) in shard.lock().unwrap().iter() {
                    ended += usize::from(!stored.outcomes.is_empty());
                    if stored.outcomes.iter().any(|(_, count)| *count > 1) {
                        twice.push(format!("\"{}\"", id));
                    }
                }
            }
        }
        format!("{{\"ended\":{},\"twice\":[{}]}}", ended, twice.join(","))
    }

    pub fn call(&self, operation: &str, request: &Value) -> Fallible<String> {
        match operation {
            "UpdateItem" => self.update_item(request),
            "GetItem" => self.get_item(request),
            "PutItem" => self.put_item(request),
            "ExecuteStatement" => crate::partiql::execute(self, request),
            "BatchExecuteStatement" => crate::partiql::batch(self, request),
            "Scan" | "Query" => self.scan(request),
            "CreateTable" => self.create_table(request),
            "DescribeTable" => Ok(format!("{{\"Table\":{}}}", text_of(&self.table(request.text("TableName"))?.description))),
            _ => Err(Failure { code: "UnknownOperationException", message: operation.to_string(), item: None }),
        }
    }

    fn create_table(&self, request: &Value) -> Fallible<String> {
        let name = request.text("TableName").to_string();
        let [key] = request.list("KeySchema") else { return invalid("the stand-in has tables with a hash key only") };
        let index = |one: &Value| {
            let range = one.list("KeySchema").iter().find(|key| key.text("KeyType") == "RANGE");
            (one.text("IndexName").to_string(), range.map(|key| key.text("AttributeName").to_string()))
        };
        let mut described = vec![
            ("TableStatus".to_string(), Value::Text("ACTIVE".to_string())),
            ("TableArn".to_string(), Value::Text(format!("arn:aws:dynamodb:us-east-1:000000000000:table/{}", name))),
        ];
        if let Value::Map(pairs) = request {
            described.extend(pairs.iter().cloned());
        }
        let table = Table {
            key: key.text("AttributeName").to_string(),
            indexes: request.list("GlobalSecondaryIndexes").iter().map(index).collect(),
            description: Value::Map(described),
            rows: shards(),
        };
        let answer = format!("{{\"TableDescription\":{}}}", text_of(&table.description));
        if self.tables.read().unwrap().contains_key(&name) {
            return Err(Failure { code: "ResourceInUseException", message: "Table already exists".into(), item: None });
        }
        self.tables.write().unwrap().insert(name, Arc::new(table));
        Ok(answer)
    }

    fn update_item(&self, request: &Value) -> Fallible<String> {
        let table = self.table(request.text("TableName"))?;
        let bound = Placeholders::of(request);
        let mut parser = Parser::new(request.text("UpdateExpression"), Binding::Placeholders(&bound))?;
        let write = Write {
            key: table.key_of(request.get("Key").unwrap_or(&Value::Null))?,
            actions: parser.update()?,
            condition: condition(request, "ConditionExpression", &bound)?,
            returned: returned(request.text("ReturnValues"))?,
            old_on_failure: request.text("ReturnValuesOnConditionCheckFailure") == "ALL_OLD",
            must_exist: false,
        };
        bound.all_used()?;
        check_size(request.get("ExpressionAttributeValues"))?;
        let attributes = table.update(write, &self.measure)?;
        Ok(attributes.map_or("{}".to_string(), |item| format!("{{\"Attributes\":{}}}", item)))
    }

    fn put_item(&self, request: &Value) -> Fallible<String> {
        let table = self.table(request.text("TableName"))?;
        let bound = Placeholders::of(request);
        let condition = condition(request, "ConditionExpression", &bound)?;
        bound.all_used()?;
        check_size(request.get("Item"))?;
        let item = request.pairs("Item").iter().map(|(name, value)| (name.clone(), normal(value.clone()))).collect();
        let wanted = request.text("ReturnValuesOnConditionCheckFailure") == "ALL_OLD";
        let old = table.put(item, condition, wanted, &self.measure)?;
        let old = old.filter(|_| request.text("ReturnValues") == "ALL_OLD");
        Ok(old.map_or("{}".to_string(), |item| format!("{{\"Attributes\":{}}}", item)))
    }

    fn get_item(&self, request: &Value) -> Fallible<String> {
        let table = self.table(request.text("TableName"))?;
        let bound = Placeholders::of(request);
        let wanted = projection(request, &bound)?;
        bound.all_used()?;
        let key = table.key_of(request.get("Key").unwrap_or(&Value::Null))?;
        table.read(key, |item| match item {
            None => "{}".to_string(),
            Some(item) if wanted.is_empty() => format!("{{\"Item\":{}}}", json_of(item)),
            Some(item) => {
                let kept = wanted.iter().filter_map(|name| item.get(*name).map(|value| (name.to_string(), value.clone())));
                format!("{{\"Item\":{}}}", json_of(&kept.collect()))
            }
        })
    }

    /// Scan, and Query as a scan with a filter: it serves checkers, not the measured path. There are no pages.
    fn scan(&self, request: &Value) -> Fallible<String> {
        let table = self.table(request.text("TableName"))?;
        let bound = Placeholders::of(request);
        let key = condition(request, "KeyConditionExpression", &bound)?;
        let filter = condition(request, "FilterExpression", &bound)?;
        let wanted = projection(request, &bound)?;
        bound.all_used()?;
        let mut items = table.all(&key)?;
        if let Some(Some(range)) = table.indexes.get(request.text("IndexName")) {
            items.retain(|item| item.contains_key(range));
            items.sort_by(|one, two| order(&one[range], &two[range]).unwrap_or(std::cmp::Ordering::Equal));
            if request.get("ScanIndexForward") == Some(&Value::Bool(false)) {
                items.reverse();
            }
        }
        let mut out = Vec::new();
        for mut item in items {
            if filter.as_ref().map_or(Ok(true), |filter| holds(filter, &item))? {
                item.retain(|name, _| wanted.is_empty() || wanted.contains(&name.as_str()));
                out.push(json_of(&item));
            }
        }
        out.truncate(request.integer("Limit").map_or(usize::MAX, |limit| limit as usize));
        Ok(format!("{{\"Count\":{0},\"ScannedCount\":{0},\"Items\":[{1}]}}", out.len(), out.join(",")))
    }
}

fn text_of(value: &Value) -> String {
    let mut out = String::new();
    value.write(&mut out);
    out
}

fn condition<'a>(request: &'a Value, key: &str, bound: &'a Placeholders<'a>) -> Fallible<Option<Condition<'a>>> {
    let text = request.text(key);
    if text.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser::new(text, Binding::Placeholders(bound))?;
    let found = parser.condition()?;
    parser.end()?;
    Ok(Some(found))
}

fn projection<'a>(request: &'a Value, bound: &'a Placeholders<'a>) -> Fallible<Vec<&'a str>> {
    let text = request.text("ProjectionExpression");
    let mut out = Vec::new();
    if text.is_empty() {
        return Ok(out);
    }
    let mut parser = Parser::new(text, Binding::Placeholders(bound))?;
    loop {
        out.push(parser.path()?[0]);
        if !parser.take(",") {
            parser.end()?;
            return Ok(out);
        }
    }
}

/// The rule is on the whole item; values of one request stand for it, as nothing here grows an item bit by bit.
fn check_size(values: Option<&Value>) -> Fallible<()> {
    fn size(value: &Value) -> usize {
        match value {
            Value::Text(text) | Value::Number(text) => text.len(),
            Value::List(values) => values.iter().map(size).sum(),
            Value::Map(pairs) => pairs.iter().map(|(name, value)| name.len() + size(value)).sum(),
            _ => 1,
        }
    }
    match values {
        Some(values) if size(values) > LARGEST_ITEM => invalid("Item size to update has exceeded the maximum allowed size"),
        _ => Ok(()),
    }
}
