//! PartiQL as DynamoDB documents it: UPDATE, INSERT and SELECT of one item by its key, alone or 25 in a batch.
//!
//! docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.update.html

use crate::dynamodb::{json_of, returned, Database, Returned, Table, Write};
use crate::evaluate::{holds, normal, Item};
use crate::expression::{invalid, Action, Binding, Condition, Failure, Fallible, Operand, Parser, Token};
use crate::json::{quote, Value};

pub const LARGEST_BATCH: usize = 25;

/// The item of an answer, as JSON.
type Answer = Option<String>;

pub fn execute(database: &Database, request: &Value) -> Fallible<String> {
    let (_, item) = run(database, request).map_err(|(_, failure)| failure)?;
    Ok(format!("{{\"Items\":[{}]}}", item.unwrap_or_default()))
}

pub fn batch(database: &Database, request: &Value) -> Fallible<String> {
    let statements = request.list("Statements");
    if statements.is_empty() || statements.len() > LARGEST_BATCH {
        return invalid(format!(
            "1 validation error detected: Value at 'statements' failed to satisfy constraint: Member must have length \
             less than or equal to {}",
            LARGEST_BATCH
        ));
    }
    let is_read = |one: &Value| one.text("Statement").trim_start().to_ascii_uppercase().starts_with("SELECT");
    if statements.iter().any(|one| is_read(one) != is_read(&statements[0])) {
        return invalid("Batch statements must be all reads or all writes");
    }
    let answers: Vec<String> = statements.iter().map(|one| entry(run(database, one))).collect();
    Ok(format!("{{\"Responses\":[{}]}}", answers.join(",")))
}

fn entry(outcome: Result<(String, Answer), (String, Failure)>) -> String {
    let mut out = String::from("{\"TableName\":");
    match outcome {
        Ok((table, item)) => {
            quote(&table, &mut out);
            if let Some(item) = item {
                out.push_str(",\"Item\":");
                out.push_str(&item);
            }
        }
        Err((table, failure)) => {
            quote(&table, &mut out);
            out.push_str(",\"Error\":");
            out.push_str(&error_entry(batch_code(failure.code), &failure));
        }
    }
    out.push('}');
    out
}

fn error_entry(code: &str, failure: &Failure) -> String {
    let mut out = format!("{{\"Code\":\"{}\",\"Message\":", code);
    quote(&failure.message, &mut out);
    if let Some(item) = &failure.item {
        out.push_str(",\"Item\":");
        out.push_str(item);
    }
    out.push('}');
    out
}

/// BatchStatementErrorCodeEnum has names of its own.
fn batch_code(code: &str) -> &str {
    match code {
        "ConditionalCheckFailedException" => "ConditionalCheckFailed",
        "DuplicateItemException" => "DuplicateItem",
        "ResourceNotFoundException" => "ResourceNotFound",
        _ => "ValidationError",
    }
}

/// What a batch's entry says when the fault injection hits it.
pub fn throttled_entry() -> &'static str {
    "{\"Error\":{\"Code\":\"ThrottlingError\",\"Message\":\"Rate exceeded\"}}"
}

fn run(database: &Database, request: &Value) -> Result<(String, Answer), (String, Failure)> {
    let mut table = String::new();
    statement(database, request, &mut table).map(|item| (table.clone(), item)).map_err(|failure| (table, failure))
}

fn statement(database: &Database, request: &Value, table: &mut String) -> Fallible<Answer> {
    let parameters = request.list("Parameters");
    let mut parser = Parser::new(request.text("Statement"), Binding::Parameters(parameters, 0))?;
    let wants_old = request.text("ReturnValuesOnConditionCheckFailure") == "ALL_OLD";
    if parser.keyword("UPDATE") {
        *table = table_name(&mut parser)?;
        return update(database, &*database.table(table)?, parser, wants_old);
    }
    if parser.keyword("INSERT") && parser.keyword("INTO") {
        *table = table_name(&mut parser)?;
        return insert(database, &*database.table(table)?, parser);
    }
    if parser.keyword("SELECT") && parser.take("*") && parser.keyword("FROM") {
        *table = table_name(&mut parser)?;
        return select(&*database.table(table)?, parser);
    }
    invalid("Statement wasn't well formed, can't be processed")
}

fn table_name(parser: &mut Parser) -> Fallible<String> {
    match parser.next()? {
        Token::Word(name) | Token::Quoted(name) => Ok(name.to_string()),
        token => invalid(format!("Statement wasn't well formed, can't be processed: {:?}", token)),
    }
}

fn update<'a>(database: &Database, table: &Table, mut parser: Parser<'a>, wants_old: bool) -> Fallible<Answer> {
    let mut actions: Vec<Action<'a>> = Vec::new();
    loop {
        if parser.keyword("SET") {
            actions.push(parser.action("SET")?);
        } else if parser.keyword("REMOVE") {
            actions.push(parser.action("REMOVE")?);
        } else {
            break;
        }
    }
    if actions.is_empty() || !parser.keyword("WHERE") {
        return invalid("Statement wasn't well formed, can't be processed: UPDATE takes SET or REMOVE, and WHERE");
    }
    let condition = parser.condition()?;
    let returned = returning(&mut parser)?;
    parser.end()?;
    parser.parameters_used()?;
    let key = key_of(&condition, table.key_name())?.clone();
    let write = Write {
        key: &key,
        actions,
        condition: Some(condition),
        returned,
        old_on_failure: wants_old,
        must_exist: true,
    };
    table.update(write, database.measure())
}

fn returning(parser: &mut Parser) -> Fallible<Returned> {
    if !parser.keyword("RETURNING") {
        return Ok(Returned::Nothing);
    }
    let all = parser.keyword("ALL");
    let age = if parser.keyword("NEW") { "ALL_NEW" } else { "ALL_OLD" };
    if !all || (age == "ALL_OLD" && !parser.keyword("OLD")) || !parser.take("*") {
        return invalid("the stand-in has RETURNING ALL NEW * and ALL OLD * only");
    }
    returned(age)
}

/// The condition must say what the key is, in a part that always has to hold.
fn key_of<'c>(condition: &'c Condition, key: &str) -> Fallible<&'c Value> {
    fn find<'c>(condition: &'c Condition, key: &str) -> Option<&'c Value> {
        match condition {
            Condition::And(left, right) => find(left, key).or_else(|| find(right, key)),
            Condition::Compare(Operand::Path(path), "=", Operand::Value(value)) if path.as_slice() == [key] => Some(value),
            _ => None,
        }
    }
    find(condition, key).map_or_else(|| invalid("Where clause does not contain a mandatory equality on all key attributes"), Ok)
}

fn insert(database: &Database, table: &Table, mut parser: Parser) -> Fallible<Answer> {
    if !parser.keyword("VALUE") {
        return invalid("Statement wasn't well formed, can't be processed: INSERT takes VALUE");
    }
    parser.expect("{")?;
    let mut item = Item::new();
    loop {
        let Token::Text(name) = parser.next()? else { return invalid("Statement wasn't well formed: a name in quotes") };
        // The lexer keeps ':' with what follows it, as in a placeholder; here it stands alone.
        let Token::Word(":") = parser.next()? else { return invalid("Statement wasn't well formed: a colon") };
        let Operand::Value(value) = parser.operand()? else { return invalid("Statement wasn't well formed: a value") };
        item.insert(name.to_string(), normal(value.into_owned()));
        if !parser.take(",") {
            break;
        }
    }
    parser.expect("}")?;
    parser.end()?;
    parser.parameters_used()?;
    let fresh = Condition::NotExists(vec![table.key_name()]);
    match table.put(item, Some(fresh), false, database.measure()) {
        Err(failure) if failure.code == "ConditionalCheckFailedException" => Err(Failure {
            code: "DuplicateItemException",
            message: "Duplicate primary key exists in table".to_string(),
            item: None,
        }),
        other => other.map(|_| None),
    }
}

fn select(table: &Table, mut parser: Parser) -> Fallible<Answer> {
    if !parser.keyword("WHERE") {
        return invalid("the stand-in selects by key only");
    }
    let condition = parser.condition()?;
    parser.end()?;
    parser.parameters_used()?;
    let found = table.read(key_of(&condition, table.key_name())?, |item| {
        item.map(|item| holds(&condition, item).map(|fits| fits.then(|| json_of(item))))
    })?;
    found.unwrap_or(Ok(None))
}
