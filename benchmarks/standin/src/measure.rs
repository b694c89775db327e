//! What a benchmark asks for: calls by operation, first receive, last finish, time from send to finish.

use std::collections::hash_map::DefaultHasher;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

pub const OPERATIONS: [&str; 25] = [
    "CreateQueue", "GetQueueUrl", "ListQueues", "GetQueueAttributes", "SetQueueAttributes", "SendMessage",
    "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch", "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch", "PurgeQueue", "CreateTable", "DescribeTable", "PutItem", "GetItem", "UpdateItem",
    "Query", "Scan", "ExecuteStatement", "BatchExecuteStatement", "ListQueueTags", "DeleteQueue", "ListTables",
];
const SHARDS: usize = 64;

pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

pub fn shard_of(key: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() as usize % SHARDS
}

pub fn shards<T: Default>() -> Vec<Mutex<T>> {
    (0..SHARDS).map(|_| Mutex::default()).collect()
}

pub struct Measure {
    calls: [AtomicU64; OPERATIONS.len()],
    faults: AtomicU64,
    first_receive: AtomicU64,
    last_finish: AtomicU64,
    finished: AtomicU64,
    waits: Mutex<Vec<u64>>,
    sent: Vec<Mutex<HashMap<String, u64>>>,
}

impl Measure {
    pub fn new() -> Measure {
        Measure {
            calls: std::array::from_fn(|_| AtomicU64::new(0)),
            faults: AtomicU64::new(0),
            first_receive: AtomicU64::new(0),
            last_finish: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            waits: Mutex::default(),
            sent: shards(),
        }
    }

    pub fn call(&self, operation: &str) {
        if let Some(index) = OPERATIONS.iter().position(|name| *name == operation) {
            self.calls[index].fetch_add(1, Relaxed);
        }
    }

    pub fn fault(&self) {
        self.faults.fetch_add(1, Relaxed);
    }

    pub fn sent(&self, job: &str) {
        self.sent[shard_of(job)].lock().unwrap().insert(job.to_string(), now_us());
    }

    pub fn received(&self) {
        if self.first_receive.load(Relaxed) == 0 {
            let _ = self.first_receive.compare_exchange(0, now_us(), Relaxed, Relaxed);
        }
    }

    /// The first terminal write of a job.
    pub fn finished(&self, job: &str) {
        let now = now_us();
        self.finished.fetch_add(1, Relaxed);
        self.last_finish.fetch_max(now, Relaxed);
        if let Some(at) = self.sent[shard_of(job)].lock().unwrap().remove(job) {
            self.waits.lock().unwrap().push(now.saturating_sub(at));
        }
    }

    pub fn reset(&self) {
        for count in self.calls.iter().chain([&self.faults, &self.first_receive, &self.last_finish, &self.finished]) {
            count.store(0, Relaxed);
        }
        self.waits.lock().unwrap().clear();
        self.sent.iter().for_each(|shard| shard.lock().unwrap().clear());
    }

    /// Times in microseconds; those since the epoch are 0 while nothing has happened.
    pub fn report(&self, left: usize) -> String {
        let mut waits = self.waits.lock().unwrap().clone();
        waits.sort_unstable();
        let share = |percent: usize| waits.get((waits.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(0);
        let calls: Vec<String> = OPERATIONS
            .iter()
            .zip(&self.calls)
            .filter(|(_, count)| count.load(Relaxed) > 0)
            .map(|(name, count)| format!("\"{}\":{}", name, count.load(Relaxed)))
            .collect();
        format!(
            "{{\"calls\":{{{}}},\"faults\":{},\"left\":{},\"firstReceive\":{},\"lastFinish\":{},\"finished\":{},\"p50\":{},\"p99\":{}}}",
            calls.join(","),
            self.faults.load(Relaxed),
            left,
            self.first_receive.load(Relaxed),
            self.last_finish.load(Relaxed),
            self.finished.load(Relaxed),
            share(50),
            share(99)
        )
    }
}
