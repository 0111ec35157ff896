//! As much HTTP as it takes to ask the admin server something, and to ask it badly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

use crate::wait::PATIENCE;

/// A question.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// The lines before the body.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Server-sent events, as they come.
#[derive(Debug)]
pub struct Events(BufReader<TcpStream>);

impl Request {
    /// A question by any method.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { method, path, headers: Vec::new(), body: None }
    }

    /// One that reads.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// One that does something.
    #[must_use]
    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    /// With a header. `host` replaces the usual one.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body in JSON.
    #[must_use]
    pub fn json(self, body: impl AsRef<[u8]>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// With a body that says nothing of its kind.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// Sends it over a connection of its own, and reads the answer.
    pub fn send(&self, address: SocketAddr) -> Result<Response> {
        let mut stream = connect(address)?;
        stream.write_all(&self.to_bytes(address, "HTTP/1.1"))?;
        Response::read(&mut stream)
    }

    /// Sends it to a server that would answer in chunks, and reads the answer, which in HTTP/1.0 is in one piece.
    pub fn send_plainly(&self, address: SocketAddr) -> Result<Response> {
        let mut stream = connect(address)?;
        stream.write_all(&self.to_bytes(address, "HTTP/1.0"))?;
        Response::read(&mut stream)
    }

    /// Sends it, and reads the head of an answer that goes on.
    pub fn listen(&self, address: SocketAddr) -> Result<Events> {
        let mut stream = connect(address)?;
        // In HTTP/1.0 the body comes as it is, and not in chunks.
        stream.write_all(&self.to_bytes(address, "HTTP/1.0"))?;
        let mut lines = BufReader::new(stream);
        let mut status = String::new();
        lines.read_line(&mut status)?;
        anyhow::ensure!(status.contains(" 200 "), "{status}");
        loop {
            let mut line = String::new();
            lines.read_line(&mut line)?;
            if line.trim().is_empty() {
                return Ok(Events(lines));
            }
        }
    }

    fn to_bytes(&self, address: SocketAddr, version: &str) -> Vec<u8> {
        let mut head = format!("{} {} {version}\r\nconnection: close\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            head += &format!("host: {address}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}

impl Response {
    /// Reads an answer to the end of its connection.
    pub fn read(stream: &mut TcpStream) -> Result<Self> {
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok(Self { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// That this is a problem of this status and word, and tells this of it.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, error: &str, detail: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["error"], error, "{problem}");
        let told = problem["detail"].as_str().unwrap_or_default();
        assert!(told.contains(detail), "{told}");
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Events {
    /// The next event's data, as JSON.
    ///
    /// # Panics
    /// If none comes in time.
    #[track_caller]
    pub fn next_json(&mut self) -> serde_json::Value {
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("an event comes in time");
            assert!(read > 0, "the stream ended");
            if let Some(data) = line.strip_prefix("data:") {
                return serde_json::from_str(data)
                    .unwrap_or_else(|error| panic!("{error}: {data}"));
            }
        }
    }
}

/// Sends a request without a body, and reads the answer.
pub fn request(address: SocketAddr, method: &str, path: &str) -> Result<Response> {
    Request::new(method, path).send(address)
}

/// A connection that gives up in time.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
