//! Texts that are nearly always one of a few: those are stored as one byte, any other behind a zero
//! byte as it is. Every text comes back as it was. A byte that is not known yet is refused: another
//! text that gets one needs a new version of the records that hold it, so that no older gateway
//! calls them damaged.

use serde::{Deserialize, Serialize};

/// Makes the stored form of a text. The order of the known ones is stored: new ones go to the end.
macro_rules! known_texts {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Serialize, Deserialize)]
            pub(crate) enum $name {
                Other(String),
                $($variant,)+
            }

            impl From<String> for $name {
                fn from(text: String) -> Self {
                    match text.as_str() {
                        $($text => Self::$variant,)+
                        _ => Self::Other(text),
                    }
                }
            }

            impl From<$name> for String {
                fn from(stored: $name) -> Self {
                    match stored {
                        $name::Other(text) => text,
                        $($name::$variant => $text.to_owned(),)+
                    }
                }
            }

            #[cfg(test)]
            impl $name {
                const KNOWN: &[&str] = &[$($text),+];
            }
        )+
    };
}

known_texts! {
    /// The name of a checksum algorithm, as S3 writes it.
    Algorithm {
        Crc32 = "CRC32",
        Crc32c = "CRC32C",
        Crc64Nvme = "CRC64NVME",
        Sha1 = "SHA1",
        Sha256 = "SHA256",
    }
    /// A storage class, as S3 writes it.
    StorageClass {
        Standard = "STANDARD",
    }
    /// A content type: those that clients send unasked, and the most common ones.
    ContentType {
        Binary = "binary/octet-stream",
        OctetStream = "application/octet-stream",
        Plain = "text/plain",
        Html = "text/html",
        Css = "text/css",
        Csv = "text/csv",
        Json = "application/json",
        Xml = "application/xml",
        Javascript = "text/javascript",
        Pdf = "application/pdf",
        Zip = "application/zip",
        Gzip = "application/gzip",
        Tar = "application/x-tar",
        Jpeg = "image/jpeg",
        Png = "image/png",
        Gif = "image/gif",
        Webp = "image/webp",
        Svg = "image/svg+xml",
        Mp4 = "video/mp4",
        Quicktime = "video/quicktime",
        Mpeg = "audio/mpeg",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    /// Checks that a text comes back as it was; returns how many bytes are stored.
    fn stored_len<T>(text: &str) -> usize
    where
        T: From<String> + Into<String> + Serialize + DeserializeOwned,
    {
        let bytes = postcard::to_allocvec(&T::from(text.to_owned())).unwrap();
        let back: T = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(back.into(), text);
        bytes.len()
    }

    #[test]
    fn known_texts_take_one_byte() {
        let one = |len| assert_eq!(len, 1);
        let algorithms = Algorithm::KNOWN.iter();
        algorithms.for_each(|text| one(stored_len::<Algorithm>(text)));
        let classes = StorageClass::KNOWN.iter();
        classes.for_each(|text| one(stored_len::<StorageClass>(text)));
        let types = ContentType::KNOWN.iter();
        types.for_each(|text| one(stored_len::<ContentType>(text)));
        // The zero byte, the length, the text.
        assert_eq!(stored_len::<ContentType>("text/plain; charset=utf-8"), 27);
    }

    #[test]
    fn other_bytes_are_refused() {
        fn refused<T: DeserializeOwned>(known: &[&str]) {
            for byte in known.len() as u8 + 1..=u8::MAX {
                let read = postcard::from_bytes::<T>(&[byte, 1, b'x']);
                assert!(read.is_err(), "{byte}");
            }
            // Text that is cut off, and what is no text.
            assert!(postcard::from_bytes::<T>(&[0, 2, b'x']).is_err());
            assert!(postcard::from_bytes::<T>(&[0, 1, 0xff]).is_err());
            assert!(postcard::from_bytes::<T>(&[]).is_err());
        }
        refused::<Algorithm>(Algorithm::KNOWN);
        refused::<StorageClass>(StorageClass::KNOWN);
        refused::<ContentType>(ContentType::KNOWN);
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in ".*") {
            stored_len::<Algorithm>(&text);
            stored_len::<StorageClass>(&text);
            stored_len::<ContentType>(&text);
        }
    }
}
