//! aws-chunked bodies, kept from filling memory.
//!
//! s3s holds a whole chunk before it passes it on, and some clients send all of a body as one
//! chunk. Unsigned chunks are therefore cut into small ones on the way; the sizes are not signed.
//! Signed chunks can't be cut, so that a large one is refused. Trailers pass unchanged.

use bytes::{Buf as _, Bytes, BytesMut};

/// Largest chunk that is passed on, in bytes.
pub const CHUNK_BYTES_MAX: u64 = 64 * 1024;
/// Largest signed chunk, in bytes. Clients sign 64 KiB to 1 MiB at a time.
pub const SIGNED_CHUNK_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longest line that tells a chunk's size.
const LINE_BYTES_MAX: usize = 1024;

/// A body whose chunks can't be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed or oversized chunk")]
pub struct ChunkError;

/// Where in the body we are.
#[derive(Debug)]
enum State {
    /// In a line that tells a size; what has come of it.
    Size(BytesMut),
    /// In a chunk: so many bytes are left.
    Data(u64),
    /// In the line end behind a chunk: so many bytes are left.
    End(u8),
    /// Behind the last chunk: trailers.
    Trailers,
}

/// Rewrites a chunked body.
#[derive(Debug)]
pub struct Rechunker {
    signed: bool,
    state: State,
}

impl Rechunker {
    /// Starts at the beginning of a body.
    #[must_use]
    pub fn new(signed: bool) -> Self {
        Self {
            signed,
            state: State::Size(BytesMut::new()),
        }
    }

    /// Takes the next bytes and appends what is to be passed on.
    ///
    /// # Errors
    /// [`ChunkError`].
    pub fn push(&mut self, mut bytes: Bytes, out: &mut Vec<Bytes>) -> Result<(), ChunkError> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Size(line) => {
                    let taken = bytes.iter().position(|byte| *byte == b'\n');
                    let taken = taken.map_or(bytes.len(), |at| at + 1);
                    line.extend_from_slice(&bytes.split_to(taken));
                    if line.len() > LINE_BYTES_MAX {
                        return Err(ChunkError);
                    }
                    if line.ends_with(b"\n") {
                        let line = std::mem::take(line).freeze();
                        self.chunk_begins(line, out)?;
                    }
                }
                State::Data(left) => {
                    let taken = (bytes.len() as u64).min(*left);
                    let taken = if self.signed {
                        taken
                    } else {
                        taken.min(CHUNK_BYTES_MAX)
                    };
                    // At most a chunk's length, which is in memory.
                    let data = bytes.split_to(taken as usize);
                    *left -= taken;
                    let ended = *left == 0;
                    if self.signed {
                        out.push(data);
                    } else {
                        out.push(format!("{taken:x}\r\n").into());
                        out.push(data);
                        out.push(Bytes::from_static(b"\r\n"));
                    }
                    if ended {
                        self.state = State::End(2);
                    }
                }
                State::End(left) => {
                    let expected = if *left == 2 { b'\r' } else { b'\n' };
                    if bytes.get_u8() != expected {
                        return Err(ChunkError);
                    }
                    if self.signed {
                        let end: &'static [u8] = if *left == 2 { b"\r" } else { b"\n" };
                        out.push(Bytes::from_static(end));
                    }
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Size(BytesMut::new());
                    }
                }
                State::Trailers => out.push(std::mem::take(&mut bytes)),
            }
        }
        Ok(())
    }

    /// Judges the end of a body: it must come behind the last chunk, which has no bytes.
    ///
    /// # Errors
    /// [`ChunkError`].
    pub fn finish(&self) -> Result<(), ChunkError> {
        match self.state {
            State::Trailers => Ok(()),
            State::Size(_) | State::Data(_) | State::End(_) => Err(ChunkError),
        }
    }

    fn chunk_begins(&mut self, line: Bytes, out: &mut Vec<Bytes>) -> Result<(), ChunkError> {
        let text = std::str::from_utf8(&line).map_err(|_| ChunkError)?;
        let digits = text.split([';', '\r']).next().unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ChunkError);
        }
        let len = u64::from_str_radix(digits, 16).map_err(|_| ChunkError)?;
        if self.signed && len > SIGNED_CHUNK_BYTES_MAX {
            return Err(ChunkError);
        }
        // The size of an unsigned chunk is told anew with each of its pieces.
        if self.signed || len == 0 {
            out.push(line);
        }
        self.state = if len == 0 {
            State::Trailers
        } else {
            State::Data(len)
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes a body through in pieces of `step` bytes.
    fn pass(body: &[u8], signed: bool, step: usize) -> Result<Vec<u8>, ChunkError> {
        let mut rechunker = Rechunker::new(signed);
        let mut out = Vec::new();
        for piece in body.chunks(step) {
            rechunker.push(Bytes::copy_from_slice(piece), &mut out)?;
        }
        rechunker.finish()?;
        Ok(out.concat())
    }

    /// Reads an unsigned chunked body: (data, what follows the last chunk, largest chunk).
    fn read(mut body: &[u8]) -> (Vec<u8>, Vec<u8>, usize) {
        let (mut data, mut largest) = (Vec::new(), 0);
        loop {
            let end = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let len =
                usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
            body = &body[end + 2..];
            if len == 0 {
                return (data, body.to_vec(), largest);
            }
            data.extend_from_slice(&body[..len]);
            assert_eq!(&body[len..len + 2], b"\r\n");
            body = &body[len + 2..];
            largest = largest.max(len);
        }
    }

    #[test]
    fn one_huge_unsigned_chunk_becomes_small_ones() {
        let data: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let trailer = b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        let mut body = format!("{:x}\r\n", data.len()).into_bytes();
        body.extend_from_slice(&data);
        body.extend_from_slice(b"\r\n0\r\n");
        body.extend_from_slice(trailer);
        for step in [1, 7, 1000, 65_536, body.len()] {
            let (read_data, rest, largest) = read(&pass(&body, false, step).unwrap());
            assert_eq!(read_data, data, "in steps of {step}");
            assert_eq!(rest, trailer);
            assert!(largest as u64 <= CHUNK_BYTES_MAX);
        }
    }

    #[test]
    fn signed_chunks_pass_byte_for_byte() {
        let signature = "a".repeat(64);
        let body = format!(
            "5;chunk-signature={signature}\r\nhello\r\n0;chunk-signature={signature}\r\n\r\n"
        );
        for step in [1, 3, body.len()] {
            assert_eq!(pass(body.as_bytes(), true, step).unwrap(), body.as_bytes());
        }
    }

    #[test]
    fn nonsense_and_giants_are_refused() {
        assert!(pass(b"zz\r\n", false, 9).is_err());
        assert!(pass(b"-5\r\n", false, 9).is_err());
        assert!(pass(b"5\r\nhelloXX", false, 9).is_err());
        assert!(pass(&[b'1'; 2000], false, 9).is_err());
        let giant = format!("{:x};chunk-signature=a\r\n", SIGNED_CHUNK_BYTES_MAX + 1);
        let begin =
            |signed| Rechunker::new(signed).push(Bytes::from(giant.clone()), &mut Vec::new());
        assert!(begin(true).is_err());
        assert!(begin(false).is_ok());
    }

    #[test]
    fn a_body_without_its_last_chunk_is_refused() {
        for short in [
            &b""[..],
            b"5\r\nhel",
            b"5\r\nhello",
            b"5\r\nhello\r\n",
            b"5\r\nhello\r\n0",
        ] {
            assert!(pass(short, false, 4).is_err(), "{short:?}");
        }
    }
}
