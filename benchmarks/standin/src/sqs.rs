//! SQS in its JSON protocol, which every SDK measured here speaks.

use crate::expression::Failure;
use crate::json::{quote, write_pairs, Value};
use crate::measure::Measure;
use crate::queue::{Change, Message, Queue, Received};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

const ACCOUNT: &str = "000000000000";
const LARGEST_MESSAGE: usize = 1024 * 1024;

type Fallible<T> = Result<T, Failure>;

pub struct Queues {
    queues: RwLock<HashMap<String, Arc<Queue>>>,
    measure: Arc<Measure>,
    base: String,
    ids: AtomicU64,
}

fn failure(code: &'static str, message: impl Into<String>) -> Failure {
    Failure { code, message: message.into(), item: None }
}

/// The query protocol's code, which SDKs show in place of the JSON one.
pub fn query_code(code: &str) -> String {
    match code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue".to_string(),
        "MessageNotInflight" => "AWS.SimpleQueueService.MessageNotInflight".to_string(),
        "EmptyBatchRequest" => "AWS.SimpleQueueService.EmptyBatchRequest".to_string(),
        "TooManyEntriesInBatchRequest" => "AWS.SimpleQueueService.TooManyEntriesInBatchRequest".to_string(),
        other => other.to_string(),
    }
}

/// Fields of one JSON object, in turn.
struct Fields(String);

impl Fields {
    fn new() -> Fields {
        Fields(String::from("{"))
    }

    fn raw(mut self, name: &str, json: &str) -> Fields {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        quote(name, &mut self.0);
        self.0.push(':');
        self.0.push_str(json);
        self
    }

    fn text(mut self, name: &str, text: &str) -> Fields {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        quote(name, &mut self.0);
        self.0.push(':');
        quote(text, &mut self.0);
        self
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

impl Queues {
    pub fn new(measure: Arc<Measure>, port: u16) -> Queues {
        let base = format!("http://127.0.0.1:{}/{}/", port, ACCOUNT);
        Queues { queues: RwLock::default(), measure, base, ids: AtomicU64::new(0) }
    }

    /// By its URL, ARN or name.
    pub fn queue(&self, reference: &str) -> Fallible<Arc<Queue>> {
        let name = reference.rsplit(['/', ':']).next().unwrap_or(reference);
        let found = self.queues.read().unwrap().get(name).cloned();
        found.ok_or_else(|| failure("QueueDoesNotExist", "The specified queue does not exist."))
    }

    /// Messages that nobody has deleted yet.
    pub fn left(&self) -> usize {
        self.queues.read().unwrap().values().map(|queue| queue.left()).sum()
    }

    pub fn purge_all(&self) {
        self.queues.read().unwrap().values().for_each(|queue| queue.purge());
    }

    pub fn new_id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.ids.fetch_add(1, Relaxed))
    }

    /// `is_open`: whether the caller still waits for the answer.
    pub fn call(&self, operation: &str, request: &Value, is_open: &dyn Fn() -> bool) -> Fallible<String> {
        match operation {
            "CreateQueue" => return self.create(request),
            "ListQueues" => return Ok(self.list(request.text("QueueNamePrefix"))),
            "GetQueueUrl" => {
                self.queue(request.text("QueueName"))?;
                return Ok(self.url(request.text("QueueName")));
            }
            _ => {}
        }
        let queue = self.queue(request.text("QueueUrl"))?;
        match operation {
            "ReceiveMessage" => self.receive(&queue, request, is_open),
            "DeleteMessage" => delete(&queue, request),
            "SendMessage" => {
                let (sent, message) = self.accept(request)?;
                queue.send(vec![message]);
                Ok(sent.end())
            }
            "SendMessageBatch" => batch(request, |entry| {
                let (sent, message) = self.accept(entry)?;
                queue.send(vec![message]);
                Ok(sent)
            }),
            "DeleteMessageBatch" => batch(request, |entry| delete(&queue, entry).map(|_| Fields::new())),
            "ChangeMessageVisibility" => change(&queue, request),
            "ChangeMessageVisibilityBatch" => batch(request, |entry| change(&queue, entry).map(|_| Fields::new())),
            "GetQueueAttributes" => Ok(self.attributes(&queue, request)),
            "SetQueueAttributes" => {
                queue.configure(request.pairs("Attributes"));
                Ok("{}".to_string())
            }
            "PurgeQueue" => {
                queue.purge();
                Ok("{}".to_string())
            }
            _ => Err(failure("InvalidAction", format!("the stand-in has no {}", operation))),
        }
    }

    fn create(&self, request: &Value) -> Fallible<String> {
        let name = request.text("QueueName");
        let queue = self.queues.write().unwrap().entry(name.to_string()).or_default().clone();
        queue.configure(request.pairs("Attributes"));
        let arn = Value::Text(format!("arn:aws:sqs:us-east-1:{}:{}", ACCOUNT, name));
        queue.configure(&[("QueueArn".to_string(), arn)]);
        Ok(self.url(name))
    }

    fn url(&self, name: &str) -> String {
        Fields::new().text("QueueUrl", &format!("{}{}", self.base, name)).end()
    }

    fn list(&self, prefix: &str) -> String {
        let mut urls = String::from("[");
        for name in self.queues.read().unwrap().keys().filter(|name| name.starts_with(prefix)) {
            if urls.len() > 1 {
                urls.push(',');
            }
            quote(&format!("{}{}", self.base, name), &mut urls);
        }
        urls.push(']');
        Fields::new().raw("QueueUrls", &urls).end()
    }

    fn attributes(&self, queue: &Queue, request: &Value) -> String {
        let wanted: Vec<&str> = request.list("AttributeNames").iter().filter_map(Value::as_text).collect();
        let mut fields = Fields::new();
        for (name, value) in queue.attributes() {
            if wanted.contains(&"All") || wanted.contains(&name.as_str()) {
                fields = fields.text(&name, &value);
            }
        }
        Fields::new().raw("Attributes", &fields.end()).end()
    }

    fn accept(&self, request: &Value) -> Fallible<(Fields, (Message, u64))> {
        let body = request.text("MessageBody").to_string();
        if body.is_empty() {
            return Err(failure("MissingParameter", "The request must contain the parameter MessageBody."));
        }
        if body.len() > LARGEST_MESSAGE {
            return Err(failure("InvalidParameterValue", "One or more parameters are invalid. Reason: Message must be \
                                                         shorter than 1048576 bytes."));
        }
        let attributes = request.get("MessageAttributes").filter(|_| !request.pairs("MessageAttributes").is_empty());
        let message = Message::new(self.new_id(), body, attributes.cloned());
        let mut sent = Fields::new().text("MessageId", &message.id).text("MD5OfMessageBody", &message.body_md5);
        if !message.attributes_md5.is_empty() {
            sent = sent.text("MD5OfMessageAttributes", &message.attributes_md5);
        }
        Ok((sent, (message, request.integer("DelaySeconds").unwrap_or(0) as u64)))
    }

    fn receive(&self, queue: &Queue, request: &Value, is_open: &dyn Fn() -> bool) -> Fallible<String> {
        let most = request.integer("MaxNumberOfMessages").unwrap_or(1);
        if !(1..=10).contains(&most) {
            return Err(failure("InvalidParameterValue", format!(
                "Value {} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.",
                most
            )));
        }
        let seconds = |key| request.integer(key).map(|value| value.max(0) as u64);
        let redrive = |arn: &str| self.queue(arn).ok();
        let (wait, visibility) = (seconds("WaitTimeSeconds"), seconds("VisibilityTimeout"));
        let found = queue.receive(most as usize, wait, visibility, &redrive, is_open);
        if found.is_empty() {
            return Ok("{}".to_string());
        }
        self.measure.received();
        let messages: Vec<String> = found.iter().map(|one| described(one, request)).collect();
        Ok(format!("{{\"Messages\":[{}]}}", messages.join(",")))
    }
}

fn described(received: &Received, request: &Value) -> String {
    let message = &received.message;
    let mut fields = Fields::new()
        .text("MessageId", &message.id)
        .text("ReceiptHandle", &received.receipt)
        .text("MD5OfBody", &message.body_md5)
        .text("Body", &message.body);
    let system = ["MessageSystemAttributeNames", "AttributeNames"].map(|key| request.list(key)).concat();
    let asked = |name: &str| system.iter().filter_map(Value::as_text).any(|one| one == name || one == "All");
    let mut known = Fields::new();
    for (name, value) in [
        ("SenderId", "AIDASTANDIN".to_string()),
        ("SentTimestamp", (message.sent_us / 1000).to_string()),
        ("ApproximateReceiveCount", message.receives.to_string()),
        ("ApproximateFirstReceiveTimestamp", (message.first_received_us / 1000).to_string()),
    ] {
        if asked(name) {
            known = known.text(name, &value);
        }
    }
    if known.0.len() > 1 {
        fields = fields.raw("Attributes", &known.end());
    }
    let wanted: Vec<&str> = request.list("MessageAttributeNames").iter().filter_map(Value::as_text).collect();
    if let (Some(Value::Map(pairs)), false) = (&message.attributes, wanted.is_empty()) {
        let all = wanted.iter().any(|name| matches!(*name, "All" | ".*"));
        let kept: Vec<_> = pairs.iter().filter(|(name, _)| all || wanted.contains(&name.as_str())).collect();
        if !kept.is_empty() {
            let mut json = String::new();
            write_pairs(kept.iter().map(|(name, value)| (name.as_str(), value)), &mut json);
            // The digest is of what is returned; of a part of them nobody here asks.
            fields = fields.raw("MessageAttributes", &json).text("MD5OfMessageAttributes", &message.attributes_md5);
        }
    }
    fields.end()
}

fn delete(queue: &Queue, request: &Value) -> Fallible<String> {
    let receipt = request.text("ReceiptHandle");
    if queue.delete(receipt) {
        return Ok("{}".to_string());
    }
    Err(failure("ReceiptHandleIsInvalid", format!("The input receipt handle \"{}\" is not a valid receipt handle.", receipt)))
}

fn change(queue: &Queue, request: &Value) -> Fallible<String> {
    let seconds = request.integer("VisibilityTimeout").unwrap_or(-1);
    if !(0..=43_200).contains(&seconds) {
        return Err(failure("InvalidParameterValue", format!(
            "Value {} for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200.",
            seconds
        )));
    }
    let receipt = request.text("ReceiptHandle");
    match queue.change_visibility(receipt, seconds as u64) {
        Change::Done => Ok("{}".to_string()),
        Change::NotInFlight => Err(failure("MessageNotInflight", "The message referred to isn't in flight.")),
        Change::BadReceipt => Err(failure("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")),
    }
}

/// Each entry by itself: one that fails does not touch the others.
fn batch(request: &Value, each: impl Fn(&Value) -> Fallible<Fields>) -> Fallible<String> {
    let entries = request.list("Entries");
    if entries.is_empty() {
        return Err(failure("EmptyBatchRequest", "There should be at least one entry in the request."));
    }
    if entries.len() > 10 {
        return Err(failure("TooManyEntriesInBatchRequest", format!(
            "Maximum number of entries per request are 10. You have sent {}.",
            entries.len()
        )));
    }
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        match each(entry) {
            Ok(fields) => successful.push(fields.text("Id", entry.text("Id")).end()),
            Err(failure) => failed.push(
                Fields::new()
                    .text("Id", entry.text("Id"))
                    .raw("SenderFault", "true")
                    .text("Code", failure.code)
                    .text("Message", &failure.message)
                    .end(),
            ),
        }
    }
    let mut fields = Fields::new().raw("Successful", &format!("[{}]", successful.join(",")));
    if !failed.is_empty() {
        fields = fields.raw("Failed", &format!("[{}]", failed.join(",")));
    }
    Ok(fields.end())
}
