//! As much of HTTP/1.1 as the SDKs use: keep-alive, Content-Length, Expect: 100-continue.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

pub struct Request {
    pub method: String,
    pub path: String,
    /// X-Amz-Target; "" when there is none.
    pub target: String,
    pub body: Vec<u8>,
    pub close: bool,
}

pub struct Answer {
    pub status: u16,
    pub body: String,
    /// SQS errors carry the query protocol's code beside the JSON one.
    pub query_error: Option<String>,
}

impl Answer {
    pub fn ok(body: String) -> Answer {
        Answer { status: 200, body, query_error: None }
    }
}

struct Head {
    length: usize,
    target: String,
    close: bool,
    expect: bool,
    method: String,
    path: String,
}

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    sent: u64,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Connection {
        let _ = stream.set_nodelay(true);
        Connection { stream, buffer: Vec::with_capacity(8192), sent: 0 }
    }

    /// The next request, or None at the connection's end.
    pub fn request(&mut self) -> Option<Request> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = parse_head(std::str::from_utf8(&self.buffer[..end]).ok()?)?;
        if head.expect {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        while self.buffer.len() < end + head.length {
            self.more()?;
        }
        let rest = self.buffer.split_off(end + head.length);
        let mut body = std::mem::replace(&mut self.buffer, rest);
        body.drain(..end);
        Some(Request { method: head.method, path: head.path, target: head.target, body, close: head.close })
    }

    /// Whether the client is still there: a long poll must not hand messages to one that was killed.
    pub fn is_open(&self) -> bool {
        let _ = self.stream.set_nonblocking(true);
        let peeked = self.stream.peek(&mut [0]);
        let _ = self.stream.set_nonblocking(false);
        match peeked {
            Ok(count) => count > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    fn more(&mut self) -> Option<()> {
        let mut chunk = [0; 16384];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Some(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return None,
            }
        }
    }

    pub fn answer(&mut self, answer: &Answer) -> Option<()> {
        self.sent += 1;
        let mut out = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/x-amz-json-1.0\r\nx-amzn-RequestId: {:016x}\r\n",
            answer.status,
            if answer.status == 200 { "OK" } else { "Error" },
            self.sent
        );
        if let Some(code) = &answer.query_error {
            out.push_str(&format!("x-amzn-query-error: {};Sender\r\n", code));
        }
        out.push_str(&format!("Content-Length: {}\r\n\r\n", answer.body.len()));
        out.push_str(&answer.body);
        self.stream.write_all(out.as_bytes()).ok()
    }
}

fn parse_head(head: &str) -> Option<Head> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut found = Head { length: 0, target: String::new(), close: false, expect: false, method, path };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            found.length = value.parse().ok()?;
        } else if name.eq_ignore_ascii_case("x-amz-target") {
            found.target = value.to_string();
        } else if name.eq_ignore_ascii_case("connection") {
            found.close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("expect") {
            found.expect = true;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return None; // none of the SDKs chunks a request of these services
        }
    }
    Some(found)
}
