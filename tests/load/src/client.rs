//! One connection to the endpoint: signs and sends a request, reads the answer.
//!
//! Works by hand on HTTP/1.1: costs little of the machine that it shares with the servers, and
//! attackers send what no library would.

use super::settings::Settings;
use megalith_sigv4::sign::{Signed, Signer, Unsigned};
use megalith_sigv4::{AmzTime, UNSIGNED_PAYLOAD};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// The most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A request to sign.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// Further headers, in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The word for its body.
    pub payload: &'a str,
}

impl<'a> Order<'a> {
    /// A request whose body is not signed.
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self {
            method,
            path,
            headers: &[],
            payload: UNSIGNED_PAYLOAD,
        }
    }
}

/// Signs a request; also returns its date.
pub fn sign(settings: &Settings, order: Order<'_>) -> (Signed, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = AmzTime::at(now.map_or(0, |since| since.as_secs() as i64));
    let date = time.to_string();
    let mut headers: Vec<(&str, &[u8])> = vec![
        ("host", settings.endpoint.as_bytes()),
        ("x-amz-content-sha256", order.payload.as_bytes()),
        ("x-amz-date", date.as_bytes()),
    ];
    headers.extend(
        order
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes())),
    );
    let signer = Signer {
        access_key: &settings.access_key,
        secret: &settings.secret,
        region: "us-east-1",
        service: "s3",
    };
    let unsigned = Unsigned {
        method: order.method,
        path: order.path,
        query: &[],
        headers: &headers,
    };
    (signer.sign(time, unsigned, order.payload), date)
}

/// Writes the head of a request with a body of `length` bytes.
pub fn head(settings: &Settings, order: Order<'_>, length: u64) -> (String, Signed) {
    let (signed, date) = sign(settings, order);
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: {}\r\nx-amz-date: {date}\r\nx-amz-content-sha256: {}\r\n\
         authorization: {}\r\ncontent-length: {length}\r\n",
        order.method, order.path, settings.endpoint, order.payload, signed.authorization
    );
    for (name, value) in order.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    (head, signed)
}

/// An answer, without its body.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub status: u16,
    /// Bytes of its body.
    pub length: u64,
    /// Whether the server ends the connection after it.
    closes: bool,
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    /// What was read and not used.
    rest: Vec<u8>,
}

impl Connection {
    /// Connects. `window` bounds what the kernel takes for us unread.
    pub async fn open(endpoint: &str, window: Option<u32>) -> io::Result<Self> {
        let mut addresses = tokio::net::lookup_host(endpoint).await?;
        let address = addresses
            .next()
            .ok_or_else(|| io::Error::other("no such host"))?;
        let socket = match address.is_ipv4() {
            true => TcpSocket::new_v4()?,
            false => TcpSocket::new_v6()?,
        };
        if let Some(window) = window {
            socket.set_recv_buffer_size(window)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            rest: Vec::new(),
        })
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a request and reads the whole answer; also says whether the connection can be used
    /// again.
    pub async fn call(&mut self, head: &str, body: &[u8]) -> io::Result<(Answer, bool)> {
        self.send(head.as_bytes()).await?;
        self.send(body).await?;
        let answer = self.answer().await?;
        self.discard(answer.length).await?;
        Ok((answer, !answer.closes))
    }

    /// Reads an answer's head.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let end = self.rest.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8_lossy(&self.rest[..end]).to_ascii_lowercase();
                self.rest.drain(..end + 4);
                return parse(&head).ok_or_else(|| io::Error::other("not an answer"));
            }
            if self.rest.len() > HEAD_BYTES_MAX || self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads and forgets a body.
    async fn discard(&mut self, length: u64) -> io::Result<()> {
        let mut left = length as usize;
        loop {
            let taken = left.min(self.rest.len());
            self.rest.drain(..taken);
            left -= taken;
            if left == 0 {
                return Ok(());
            }
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads one byte of a body.
    pub async fn byte(&mut self) -> io::Result<()> {
        if self.rest.is_empty() {
            self.stream.read_u8().await?;
        } else {
            self.rest.remove(0);
        }
        Ok(())
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.rest.reserve(16 << 10);
        self.stream.read_buf(&mut self.rest).await
    }
}

fn parse(head: &str) -> Option<Answer> {
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer {
        status,
        length: 0,
        closes: false,
    };
    for line in lines {
        match line.split_once(':') {
            Some(("content-length", value)) => answer.length = value.trim().parse().ok()?,
            Some(("connection", value)) => answer.closes = value.trim() == "close",
            Some(_) | None => {}
        }
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_head_is_read() {
        let read = parse("http/1.1 503 slow down\r\ncontent-length: 17\r\nconnection: close");
        let read = read.expect("an answer");
        assert_eq!((read.status, read.length, read.closes), (503, 17, true));
        assert!(parse("nonsense").is_none());
    }
}
