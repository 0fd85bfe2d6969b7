//! aws-chunked bodies: taken apart, and verified chunk by chunk.
//!
//! No chunk is held: its data is passed on as it comes while its hash is computed, and its
//! signature is compared at its end. Until the body has ended well, no use of the data may be
//! final.

use crate::ops::BodyError;
use bytes::{Buf as _, Bytes, BytesMut};
use megalith_sigv4::{ChunkChain, PayloadHasher, Signature};

/// The longest line with a chunk's size and signature.
const LINE_BYTES_MAX: usize = 1024;
/// Most bytes of all trailers.
const TRAILERS_BYTES_MAX: usize = 16 * 1024;
/// Most trailers.
const TRAILERS_MAX: usize = 100;
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// Trailers, with names in lower case.
pub(super) type Trailers = Vec<(String, String)>;

/// The current position in the body.
#[derive(Debug)]
enum State {
    /// In a line with a size; holds what has come of it.
    Line(BytesMut),
    /// In a chunk.
    Data(Chunk),
    /// In the line end after a chunk; holds how many bytes of it are missing.
    End(u8),
    /// After the last chunk; holds what has come.
    Trailers(BytesMut),
}

/// The current chunk.
#[derive(Debug)]
struct Chunk {
    left: u64,
    /// The signature that its data must have, and the hash so far.
    signed: Option<(Signature, PayloadHasher)>,
}

/// Takes a chunked body apart.
#[derive(Debug)]
pub(super) struct ChunkedDecoder {
    /// The signatures so far, if chunks are signed.
    chain: Option<Box<ChunkChain>>,
    state: State,
}

impl ChunkedDecoder {
    /// Starts at the beginning of a body.
    pub(super) fn new(chain: Option<Box<ChunkChain>>) -> Self {
        Self {
            chain,
            state: State::Line(BytesMut::new()),
        }
    }

    /// Takes from `bytes` and returns the next piece of data; None if it needs more bytes.
    ///
    /// # Errors
    /// [`BodyError::Malformed`], [`BodyError::Signature`].
    pub(super) fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Bytes>, BodyError> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Line(line) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let taken = end.map_or(bytes.len(), |at| at + 1);
                    if line.len() + taken > LINE_BYTES_MAX {
                        return Err(BodyError::Malformed);
                    }
                    line.extend_from_slice(&bytes.split_to(taken));
                    if end.is_some() {
                        let line = std::mem::take(line);
                        self.begin(&line)?;
                    }
                }
                State::Data(chunk) => {
                    let taken = usize::try_from(chunk.left).unwrap_or(usize::MAX);
                    let data = bytes.split_to(taken.min(bytes.len()));
                    chunk.left -= data.len() as u64;
                    if let Some((_, hasher)) = &mut chunk.signed {
                        hasher.update(&data);
                    }
                    if chunk.left == 0
                        && let State::Data(chunk) =
                            std::mem::replace(&mut self.state, State::End(2))
                    {
                        self.verify(chunk)?;
                    }
                    return Ok(Some(data));
                }
                State::End(left) => {
                    let expected = if *left == 2 { b'\r' } else { b'\n' };
                    if bytes.get_u8() != expected {
                        return Err(BodyError::Malformed);
                    }
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Line(BytesMut::new());
                    }
                }
                State::Trailers(all) => {
                    if all.len() + bytes.len() > TRAILERS_BYTES_MAX {
                        return Err(BodyError::Malformed);
                    }
                    all.extend_from_slice(&std::mem::take(bytes));
                }
            }
        }
        Ok(None)
    }

    /// Checks that the body ends after its last chunk, and returns the trailers.
    ///
    /// # Errors
    /// [`BodyError`].
    pub(super) fn finish(&mut self) -> Result<Trailers, BodyError> {
        match std::mem::replace(&mut self.state, State::End(0)) {
            State::Trailers(all) => self.trailers(&all),
            State::Line(_) | State::Data(_) | State::End(_) => Err(BodyError::Incomplete),
        }
    }

    /// Starts a chunk from its line: `<hexadecimal size>[;chunk-signature=<signature>]`.
    fn begin(&mut self, line: &[u8]) -> Result<(), BodyError> {
        let line = line.strip_suffix(b"\r\n").ok_or(BodyError::Malformed)?;
        let line = std::str::from_utf8(line).map_err(|_| BodyError::Malformed)?;
        let (size, extension) = line.split_once(';').unwrap_or((line, ""));
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BodyError::Malformed);
        }
        let left = u64::from_str_radix(size, 16).map_err(|_| BodyError::Malformed)?;
        let signed = match &self.chain {
            None => None,
            Some(_) => {
                let signature = extension
                    .strip_prefix("chunk-signature=")
                    .filter(|text| text.len() == 64)
                    .ok_or(BodyError::Malformed)?;
                let signature = Signature::parse(signature.as_bytes());
                // A text of 64 characters that isn't a signature matches none.
                Some((
                    signature.ok_or(BodyError::Signature)?,
                    PayloadHasher::default(),
                ))
            }
        };
        let chunk = Chunk { left, signed };
        if left > 0 {
            self.state = State::Data(chunk);
            return Ok(());
        }
        self.state = State::Trailers(BytesMut::new());
        self.verify(chunk)
    }

    /// Checks the signature of a chunk that has ended.
    fn verify(&mut self, chunk: Chunk) -> Result<(), BodyError> {
        let (Some(chain), Some((claimed, hasher))) = (&mut self.chain, chunk.signed) else {
            return Ok(());
        };
        if chain.sign_chunk(hasher.finish()).matches(&claimed) {
            Ok(())
        } else {
            Err(BodyError::Signature)
        }
    }

    fn trailers(&mut self, all: &[u8]) -> Result<Trailers, BodyError> {
        if all.is_empty() || all == b"\r\n" {
            return Ok(Vec::new());
        }
        let text = std::str::from_utf8(all).map_err(|_| BodyError::Malformed)?;
        let (mut trailers, mut signature) = (Vec::new(), None);
        for line in text
            .split('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line))
        {
            if line.is_empty() {
                continue;
            }
            let (name, value) = line.split_once(':').ok_or(BodyError::Malformed)?;
            let (name, value) = (name.to_ascii_lowercase(), value.trim_ascii().to_owned());
            if name == TRAILER_SIGNATURE {
                if signature.replace(value).is_some() {
                    return Err(BodyError::Malformed);
                }
            } else {
                trailers.push((name, value));
            }
            if trailers.len() > TRAILERS_MAX {
                return Err(BodyError::Malformed);
            }
        }
        trailers.sort_by(|(one, _), (other, _)| one.cmp(other));
        match (&mut self.chain, signature) {
            (None, None) => {}
            // There is a signature but no key to verify it, or there should be one and is none.
            (None, Some(_)) | (Some(_), None) => return Err(BodyError::Malformed),
            (Some(chain), Some(claimed)) => {
                let claimed = Signature::parse(claimed.as_bytes()).ok_or(BodyError::Signature)?;
                let mut canonical = Vec::with_capacity(all.len());
                for (name, value) in &trailers {
                    for piece in [name, ":", value, "\n"] {
                        canonical.extend_from_slice(piece.as_bytes());
                    }
                }
                if !chain.sign_trailers(&canonical).matches(&claimed) {
                    return Err(BodyError::Signature);
                }
            }
        }
        Ok(trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes an unsigned body in pieces of `step` bytes.
    fn take(body: &[u8], step: usize) -> Result<(Vec<u8>, Trailers), BodyError> {
        let mut decoder = ChunkedDecoder::new(None);
        let mut data = Vec::new();
        for piece in body.chunks(step) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(found) = decoder.next(&mut piece)? {
                data.extend_from_slice(&found);
            }
        }
        Ok((data, decoder.finish()?))
    }

    #[test]
    fn one_huge_chunk_is_not_held() {
        let data: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let mut body = format!("{:x}\r\n", data.len()).into_bytes();
        body.extend_from_slice(&data);
        body.extend_from_slice(b"\r\n0\r\nX-Amz-Checksum-Crc32: AAAAAA== \r\n\r\n");
        let trailers = vec![("x-amz-checksum-crc32".to_owned(), "AAAAAA==".to_owned())];
        for step in [1, 7, 1000, 65_536, body.len()] {
            let taken = take(&body, step).expect("a body");
            assert!(
                taken == (data.clone(), trailers.clone()),
                "in steps of {step}"
            );
        }
        // Pieces are passed on before the chunk has ended.
        let mut decoder = ChunkedDecoder::new(None);
        let mut begun = Bytes::from("fffffffffff\r\nabc");
        assert_eq!(decoder.next(&mut begun), Ok(Some(Bytes::from("abc"))));
    }

    #[test]
    fn nonsense_is_refused() {
        let malformed = |body: &[u8]| {
            for step in [1, body.len()] {
                assert_eq!(take(body, step), Err(BodyError::Malformed), "{body:?}");
            }
        };
        for body in [
            "zz\r\n",
            "-5\r\n",
            "+5\r\n",
            "\r\n",
            ";x\r\n",
            "5\n",
            "5\r\nhelloXX",
        ] {
            malformed(body.as_bytes());
        }
        malformed(&[b'1'; 2000]);
        malformed(
            &[b'f'; 40]
                .map(|byte| byte)
                .iter()
                .chain(b"\r\n")
                .copied()
                .collect::<Vec<_>>(),
        );
        malformed(b"0\r\nno trailer\r\n\r\n");
        malformed(b"0\r\nx-amz-trailer-signature:00\r\n\r\n");
        let many = format!("0\r\n{}\r\n", "a:b\r\n".repeat(101));
        malformed(many.as_bytes());
        let long = format!("0\r\na:{}\r\n\r\n", "b".repeat(TRAILERS_BYTES_MAX));
        malformed(long.as_bytes());
    }

    #[test]
    fn a_body_without_its_last_chunk_is_incomplete() {
        for short in [
            "",
            "5",
            "5\r\n",
            "5\r\nhel",
            "5\r\nhello",
            "5\r\nhello\r",
            "5\r\nhello\r\n0",
        ] {
            assert_eq!(
                take(short.as_bytes(), 4),
                Err(BodyError::Incomplete),
                "{short}"
            );
        }
    }
}
