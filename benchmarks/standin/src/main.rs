//! An in-memory stand-in of SQS and DynamoDB for benchmarks and chaos runs: real conditions, real attributes, and a set
//! delay for each call. A thread for each connection.
//!
//!     standin [--port N] [--delay-ms N] [--fault-rate SHARE] [--seed N]
//!
//! Prints its port on standard output once it listens.

mod control;
mod digest;
mod dynamodb;
mod evaluate;
mod expression;
mod http;
mod json;
mod measure;
mod partiql;
mod queue;
mod sqs;

use control::{control, Controls, Fault, Shared};
use expression::Failure;
use http::{Answer, Connection, Request};
use json::{quote, Value};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

const STACK_BYTES: usize = 512 * 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str, default: f64| -> f64 {
        let at = arguments.iter().position(|word| word == name);
        at.and_then(|at| arguments.get(at + 1)).map_or(default, |text| text.parse().expect("a number"))
    };
    let listener = TcpListener::bind(("127.0.0.1", option("--port", 0.0) as u16)).expect("the port is free");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let measure = Arc::new(measure::Measure::new());
    let shared = Arc::new(Shared {
        controls: Controls::new(
            (option("--delay-ms", 0.0) * 1000.0) as u64,
            option("--fault-rate", 0.0),
            option("--seed", 1.0) as u64,
        ),
        queues: sqs::Queues::new(measure.clone(), port),
        database: dynamodb::Database::new(measure.clone()),
        measure,
    });
    println!("{}", port);
    for stream in listener.incoming().flatten() {
        let shared = shared.clone();
        let serving = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || serve(&shared, stream));
        serving.expect("another thread");
    }
}

fn serve(shared: &Arc<Shared>, stream: TcpStream) -> Option<()> {
    let mut connection = Connection::new(stream);
    loop {
        let request = connection.request()?;
        if request.target.is_empty() && request.method != "OPTIONS" {
            connection.answer(&control(shared, &request))?;
        } else {
            let answer = called(shared, &request, &|| connection.is_open())?;
            connection.answer(&answer)?;
        }
        if request.close {
            return None;
        }
    }
}

/// None: the answer is lost.
fn called(shared: &Shared, request: &Request, is_open: &dyn Fn() -> bool) -> Option<Answer> {
    let delay = shared.controls.delay_us.load(Relaxed);
    if delay > 0 {
        std::thread::sleep(Duration::from_micros(delay));
    }
    let (service, operation) = request.target.split_once('.').unwrap_or((&request.target, ""));
    let is_sqs = service == "AmazonSQS";
    shared.measure.call(operation);
    let fault = shared.controls.draw();
    if fault != Fault::None {
        shared.measure.fault();
    }
    match fault {
        Fault::Error => return Some(server_error(is_sqs)),
        Fault::Throttled => return Some(throttled(is_sqs)),
        Fault::None | Fault::AnswerLost => {}
    }
    let parsed = std::str::from_utf8(&request.body).map_err(|error| error.to_string()).and_then(json::parse);
    let outcome = match &parsed {
        Err(message) => Err(Failure { code: "SerializationException", message: message.clone(), item: None }),
        Ok(body) if is_sqs => shared.queues.call(operation, body, is_open),
        Ok(body) => batch_with_faults(shared, operation, body),
    };
    if fault == Fault::AnswerLost {
        return None;
    }
    Some(match outcome {
        Ok(body) => Answer::ok(body),
        Err(failure) => refusal(&failure, is_sqs),
    })
}

/// In a batch of statements each can be throttled by itself.
fn batch_with_faults(shared: &Shared, operation: &str, body: &Value) -> Result<String, Failure> {
    let refused_whole = body.list("Statements").len() > partiql::LARGEST_BATCH;
    if operation != "BatchExecuteStatement" || refused_whole || shared.controls.faults.load(Relaxed) == 0 {
        return shared.database.call(operation, body);
    }
    let mut answers = Vec::new();
    for statement in body.list("Statements") {
        if shared.controls.draw() == Fault::Throttled {
            answers.push(partiql::throttled_entry().to_string());
            continue;
        }
        let one = Value::Map(vec![("Statements".to_string(), Value::List(vec![statement.clone()]))]);
        let answer = shared.database.call(operation, &one)?;
        let entry = answer.strip_prefix("{\"Responses\":[").and_then(|rest| rest.strip_suffix("]}"));
        answers.push(entry.unwrap_or("{}").to_string());
    }
    Ok(format!("{{\"Responses\":[{}]}}", answers.join(",")))
}

fn server_error(is_sqs: bool) -> Answer {
    let code = if is_sqs { "InternalFailure" } else { "InternalServerError" };
    let failure = Failure { code, message: "The request processing has failed.".to_string(), item: None };
    Answer { status: 500, ..refusal(&failure, is_sqs) }
}

fn throttled(is_sqs: bool) -> Answer {
    let code = if is_sqs { "RequestThrottled" } else { "ProvisionedThroughputExceededException" };
    refusal(&Failure { code, message: "Rate exceeded".to_string(), item: None }, is_sqs)
}

fn refusal(failure: &Failure, is_sqs: bool) -> Answer {
    let namespace = if is_sqs { "com.amazonaws.sqs" } else { "com.amazonaws.dynamodb.v20120810" };
    let mut body = format!("{{\"__type\":\"{}#{}\",\"message\":", namespace, failure.code);
    quote(&failure.message, &mut body);
    if let Some(item) = &failure.item {
        body.push_str(",\"Item\":");
        body.push_str(item);
    }
    body.push('}');
    Answer { status: 400, body, query_error: is_sqs.then(|| sqs::query_code(failure.code)) }
}
