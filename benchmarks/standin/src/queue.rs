//! One queue: visibility timeouts, long polls, receive counts, and the way to the dead-letter queue.

use crate::digest::md5_hex;
use crate::json::Value;
use crate::measure::now_us;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

#[derive(Clone)]
pub struct Message {
    pub id: String,
    pub body: String,
    pub body_md5: String,
    pub attributes: Option<Value>,
    pub attributes_md5: String,
    pub sent_us: u64,
    pub first_received_us: u64,
    pub receives: u32,
    /// Changes with everything that happens to the message: tells a present receipt or timer from an old one.
    epoch: u64,
    in_flight: bool,
    receipt_epoch: u64,
}

impl Message {
    pub fn new(id: String, body: String, attributes: Option<Value>) -> Message {
        Message {
            body_md5: md5_hex(body.as_bytes()),
            attributes_md5: attributes.as_ref().map_or(String::new(), attributes_md5),
            id,
            body,
            attributes,
            sent_us: now_us(),
            first_received_us: 0,
            receives: 0,
            epoch: 0,
            in_flight: false,
            receipt_epoch: 0,
        }
    }
}

/// Names in order, each with its type and value, all with their lengths; SQS developer guide, "Calculating the MD5
/// message digest for message attributes".
fn attributes_md5(attributes: &Value) -> String {
    let Value::Map(pairs) = attributes else { return String::new() };
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort_by(|one, two| one.0.cmp(&two.0));
    let mut bytes = Vec::new();
    let mut field = |data: &[u8], mark: Option<u8>| {
        bytes.extend(mark);
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(data);
    };
    for (name, value) in sorted {
        field(name.as_bytes(), None);
        field(value.text("DataType").as_bytes(), None);
        if value.text("DataType").starts_with("Binary") {
            field(&crate::digest::base64_decode(value.text("BinaryValue")).unwrap_or_default(), Some(2));
        } else {
            field(value.text("StringValue").as_bytes(), Some(1));
        }
    }
    md5_hex(&bytes)
}

#[derive(Default)]
struct State {
    messages: HashMap<u64, Message>,
    ready: VecDeque<(u64, u64)>,
    /// When hidden messages show again: time, number, epoch.
    timers: BinaryHeap<Reverse<(u64, u64, u64)>>,
    in_flight: usize,
    numbered: u64,
    attributes: HashMap<String, String>,
}

#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
}

pub struct Received {
    pub message: Message,
    pub receipt: String,
}

#[derive(PartialEq)]
pub enum Change {
    Done,
    NotInFlight,
    BadReceipt,
}

impl State {
    fn setting(&self, name: &str, default: u64) -> u64 {
        self.attributes.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    fn show_due(&mut self, now: u64) {
        while let Some(Reverse((at, number, epoch))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(message) = self.messages.get_mut(&number).filter(|one| one.epoch == epoch) else { continue };
            self.in_flight -= usize::from(message.in_flight);
            message.in_flight = false;
            message.epoch += 1;
            self.ready.push_back((number, message.epoch));
        }
    }

    fn hide(&mut self, number: u64, until_us: u64) {
        let Some(message) = self.messages.get_mut(&number) else { return };
        message.epoch += 1;
        let epoch = message.epoch;
        self.timers.push(Reverse((until_us, number, epoch)));
    }

    fn pop(&mut self) -> Option<u64> {
        while let Some((number, epoch)) = self.ready.pop_front() {
            if self.messages.get(&number).is_some_and(|message| message.epoch == epoch) {
                return Some(number);
            }
        }
        None
    }

    fn remove(&mut self, number: u64) {
        if let Some(message) = self.messages.remove(&number) {
            self.in_flight -= usize::from(message.in_flight);
        }
    }
}

impl Queue {
    pub fn configure(&self, attributes: &[(String, Value)]) {
        let mut state = self.state.lock().unwrap();
        for (name, value) in attributes {
            state.attributes.insert(name.clone(), value.as_text().unwrap_or("").to_string());
        }
    }

    pub fn send(&self, messages: Vec<(Message, u64)>) {
        let mut state = self.state.lock().unwrap();
        let now = now_us();
        for (message, delay_s) in messages {
            state.numbered += 1;
            let number = state.numbered;
            state.messages.insert(number, message);
            match delay_s {
                0 => state.ready.push_back((number, 0)),
                _ => state.timers.push(Reverse((now + delay_s * 1_000_000, number, 0))),
            }
        }
        drop(state);
        self.arrived.notify_all();
    }

    /// Up to `most` messages; waits for the first. `redrive` takes those that were received too often.
    pub fn receive(
        &self,
        most: usize,
        wait_s: Option<u64>,
        visibility_s: Option<u64>,
        redrive: &dyn Fn(&str) -> Option<Arc<Queue>>,
        is_open: &dyn Fn() -> bool,
    ) -> Vec<Received> {
        let mut state = self.state.lock().unwrap();
        let wait_s = wait_s.unwrap_or_else(|| state.setting("ReceiveMessageWaitTimeSeconds", 0));
        let visibility_s = visibility_s.unwrap_or_else(|| state.setting("VisibilityTimeout", 30));
        let deadline = now_us() + wait_s * 1_000_000;
        loop {
            let now = now_us();
            state.show_due(now);
            let found = self.take(&mut state, most, now, visibility_s, redrive);
            if !found.is_empty() || now >= deadline {
                return found;
            }
            let next = state.timers.peek().map_or(deadline, |Reverse((at, ..))| deadline.min(*at));
            let pause = Duration::from_micros(next.saturating_sub(now).max(200));
            state = self.arrived.wait_timeout(state, pause).unwrap().0;
            if !is_open() {
                return Vec::new();
            }
        }
    }

    fn take(
        &self,
        state: &mut State,
        most: usize,
        now: u64,
        visibility_s: u64,
        redrive: &dyn Fn(&str) -> Option<Arc<Queue>>,
    ) -> Vec<Received> {
        let dead = state.attributes.get("RedrivePolicy").and_then(|text| crate::json::parse(text).ok());
        let limit = dead.as_ref().and_then(|policy| policy.integer("maxReceiveCount"));
        let dead = dead.and_then(|policy| redrive(policy.text("deadLetterTargetArn")));
        let mut out = Vec::new();
        while out.len() < most {
            let Some(number) = state.pop() else { break };
            let message = state.messages.get_mut(&number).expect("pop gives what is there");
            if let (Some(limit), Some(dead)) = (limit, &dead) {
                if i64::from(message.receives) >= limit {
                    let mut moved = message.clone();
                    moved.epoch = 0;
                    state.remove(number);
                    dead.send(vec![(moved, 0)]);
                    continue;
                }
            }
            message.receives += 1;
            message.in_flight = true;
            if message.first_received_us == 0 {
                message.first_received_us = now;
            }
            message.receipt_epoch += 1;
            let receipt = format!("{}-{}-{}", number, message.receipt_epoch, message.id);
            let copy = message.clone();
            state.in_flight += 1;
            state.hide(number, now + visibility_s * 1_000_000);
            out.push(Received { message: copy, receipt });
        }
        out
    }

    /// False for what is no receipt at all; an old one succeeds and deletes nothing.
    pub fn delete(&self, receipt: &str) -> bool {
        let Some((number, epoch)) = parse_receipt(receipt) else { return false };
        let mut state = self.state.lock().unwrap();
        if state.messages.get(&number).is_some_and(|message| message.receipt_epoch == epoch) {
            state.remove(number);
        }
        true
    }

    pub fn change_visibility(&self, receipt: &str, seconds: u64) -> Change {
        let Some((number, epoch)) = parse_receipt(receipt) else { return Change::BadReceipt };
        let mut state = self.state.lock().unwrap();
        let now = now_us();
        state.show_due(now);
        match state.messages.get_mut(&number) {
            Some(message) if message.receipt_epoch == epoch && message.in_flight => {}
            _ => return Change::NotInFlight,
        }
        state.hide(number, now + seconds * 1_000_000);
        state.show_due(now);
        drop(state);
        self.arrived.notify_all();
        Change::Done
    }

    pub fn left(&self) -> usize {
        self.state.lock().unwrap().messages.len()
    }

    pub fn purge(&self) {
        let mut state = self.state.lock().unwrap();
        state.messages.clear();
        state.ready.clear();
        state.timers.clear();
        state.in_flight = 0;
    }

    /// What was set, and the counts.
    pub fn attributes(&self) -> Vec<(String, String)> {
        let mut state = self.state.lock().unwrap();
        state.show_due(now_us());
        let ready = state.ready.iter().filter(|(number, epoch)| {
            state.messages.get(number).is_some_and(|message| message.epoch == *epoch)
        });
        let (ready, in_flight) = (ready.count(), state.in_flight);
        let delayed = state.messages.len() - ready - in_flight;
        let mut out: Vec<(String, String)> = [("VisibilityTimeout", "30"), ("ReceiveMessageWaitTimeSeconds", "0")]
            .iter()
            .filter(|(name, _)| !state.attributes.contains_key(*name))
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        out.extend(state.attributes.iter().map(|(name, value)| (name.clone(), value.clone())));
        out.push(("ApproximateNumberOfMessages".into(), ready.to_string()));
        out.push(("ApproximateNumberOfMessagesNotVisible".into(), in_flight.to_string()));
        out.push(("ApproximateNumberOfMessagesDelayed".into(), delayed.to_string()));
        out
    }
}

fn parse_receipt(receipt: &str) -> Option<(u64, u64)> {
    let mut parts = receipt.splitn(3, '-');
    let numbers = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().map(|_| numbers)
}
