//! What the stand-in does to calls (a delay, faults) and what a benchmark tells it: fill, reset, measure.

use crate::dynamodb::Database;
use crate::http::{Answer, Request};
use crate::json::{parse, Value};
use crate::measure::Measure;
use crate::queue::{Message, Queue};
use crate::sqs::Queues;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// 500, and nothing has happened.
    Error,
    Throttled,
    /// The effect is there, the answer is not: the connection breaks.
    AnswerLost,
}

pub struct Controls {
    pub delay_us: AtomicU64,
    /// Of a million calls.
    pub faults: AtomicU64,
    pub seed: AtomicU64,
    drawn: AtomicU64,
}

impl Controls {
    pub fn new(delay_us: u64, fault_rate: f64, seed: u64) -> Controls {
        Controls {
            delay_us: delay_us.into(),
            faults: ((fault_rate * 1e6) as u64).into(),
            seed: seed.into(),
            drawn: 0.into(),
        }
    }

    pub fn draw(&self) -> Fault {
        let rate = self.faults.load(Relaxed);
        if rate == 0 {
            return Fault::None;
        }
        let drawn = splitmix(self.seed.load(Relaxed).wrapping_add(self.drawn.fetch_add(1, Relaxed)));
        if drawn % 1_000_000 >= rate {
            return Fault::None;
        }
        [Fault::Error, Fault::Throttled, Fault::AnswerLost][(drawn >> 40) as usize % 3]
    }
}

/// https://prng.di.unimi.it/splitmix64.c: a good spread from successive numbers.
fn splitmix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e3779b97f4a7c15).wrapping_add(0x9e3779b97f4a7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d049bb133111eb);
    mixed ^ (mixed >> 31)
}

pub struct Shared {
    pub controls: Controls,
    pub measure: Arc<Measure>,
    pub queues: Queues,
    pub database: Database,
}

/// `/_fill?queue=jobs&rate=50` and its like; the answer is JSON.
pub fn control(shared: &Arc<Shared>, request: &Request) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let option = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let outcome = match path {
        "/_stats" => Ok(shared.measure.report(shared.queues.left())),
        "/_history" => Ok(shared.database.history()),
        "/_reset" => {
            shared.queues.purge_all();
            shared.database.clear();
            shared.measure.reset();
            Ok("{}".to_string())
        }
        "/_set" => set(&shared.controls, &option),
        "/_fill" => fill(shared, option("queue").unwrap_or(""), option("rate"), &request.body),
        _ => Err(format!("no {}", path)),
    };
    match outcome {
        Ok(body) => Answer::ok(body),
        Err(message) => Answer { status: 404, body: format!("{{\"message\":{:?}}}", message), query_error: None },
    }
}

fn set<'q>(controls: &Controls, option: &dyn Fn(&str) -> Option<&'q str>) -> Result<String, String> {
    let number = |name: &str| option(name).map(|text| text.parse::<f64>().map_err(|error| error.to_string())).transpose();
    if let Some(delay) = number("delay_ms")? {
        controls.delay_us.store((delay * 1000.0) as u64, Relaxed);
    }
    if let Some(rate) = number("fault_rate")? {
        controls.faults.store((rate * 1e6) as u64, Relaxed);
    }
    if let Some(seed) = number("seed")? {
        controls.seed.store(seed as u64, Relaxed);
    }
    Ok("{}".to_string())
}

/// Messages, `[{"id", "body", "attributes"}]`: all at once, or so many a second.
fn fill(shared: &Arc<Shared>, queue: &str, rate: Option<&str>, body: &[u8]) -> Result<String, String> {
    let queue = shared.queues.queue(queue).map_err(|failure| failure.message)?;
    let Value::List(jobs) = parse(std::str::from_utf8(body).map_err(|error| error.to_string())?)? else {
        return Err("a list is wanted".to_string());
    };
    let rate: f64 = rate.map_or(Ok(0.0), str::parse).map_err(|_| "the rate is no number".to_string())?;
    if rate <= 0.0 {
        let messages: Vec<_> = jobs.iter().map(|job| (message(shared, job), 0)).collect();
        jobs.iter().for_each(|job| shared.measure.sent(job.text("id")));
        queue.send(messages);
    } else {
        let shared = shared.clone();
        std::thread::spawn(move || trickle(&shared, &queue, &jobs, rate));
    }
    Ok("{}".to_string())
}

fn trickle(shared: &Shared, queue: &Queue, jobs: &[Value], rate: f64) {
    let began = Instant::now();
    for (index, job) in jobs.iter().enumerate() {
        let due = Duration::from_secs_f64(index as f64 / rate);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        shared.measure.sent(job.text("id"));
        queue.send(vec![(message(shared, job), 0)]);
    }
}

fn message(shared: &Shared, job: &Value) -> Message {
    Message::new(shared.queues.new_id(), job.text("body").to_string(), job.get("attributes").cloned())
}
