//! Backups in an S3 bucket: sends a directory there, or fetches one.
//!
//! The card is sent last, so that an upload that was cut off is not a backup. The endpoint and our
//! keys come from the variables that every S3 client reads (`AWS_ENDPOINT_URL`,
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
//! `AWS_CA_BUNDLE`).

mod http;

use crate::trust::TrustError;
use futures::{StreamExt, TryStreamExt};
use http::BucketConnector;
use megalith_metadata::backup::{FILES, PARTIAL_SUFFIX};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::path::Path as Key;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, WriteMultipart};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// S3 takes parts of at least 5 MiB, and at most 10,000 of them.
const PART_LEN: u64 = 16 << 20;
const PARTS_MAX: u64 = 9_000;
/// How many parts are sent at once.
const PARTS_IN_FLIGHT: usize = 3;
/// The time for one request; a part must be sent within it.
const REQUEST_DEADLINE: Duration = Duration::from_secs(120);

/// Why a bucket could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    #[error("{action} s3://{bucket}/{key}")]
    Store {
        action: &'static str,
        bucket: String,
        key: String,
        source: Box<object_store::Error>,
    },
    #[error("learn which certificates to trust")]
    Trust(#[from] TrustError),
    /// There is already a backup, or something else.
    #[error("s3://{bucket}/{prefix} is not empty: nothing was changed")]
    NotEmpty { bucket: String, prefix: String },
    #[error("{action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

fn local(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BucketError {
    let path = path.to_owned();
    move |source| BucketError::Io {
        action,
        path,
        source,
    }
}

/// The backups with one prefix in a bucket.
pub struct BackupBucket {
    store: Box<dyn ObjectStore>,
    name: String,
    prefix: Key,
}

impl BackupBucket {
    /// Reads the environment; sends nothing.
    pub fn open(name: &str, prefix: &str) -> Result<Self, BucketError> {
        let failed = |source| BucketError::Store {
            action: "reach",
            bucket: name.to_owned(),
            key: prefix.to_owned(),
            source: Box::new(source),
        };
        let bundle = std::env::var_os("AWS_CA_BUNDLE").map(PathBuf::from);
        let connector = BucketConnector::new(bundle.as_deref(), REQUEST_DEADLINE)?;
        let builder = AmazonS3Builder::from_env();
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let store = builder
            .with_http_connector(connector)
            .with_client_options(ClientOptions::new().with_allow_http(plain))
            .with_bucket_name(name)
            .with_checksum_algorithm(Checksum::SHA256)
            .build()
            .map_err(failed)?;
        Ok(Self {
            store: Box::new(store),
            name: name.to_owned(),
            prefix: Key::parse(prefix).map_err(|error| failed(error.into()))?,
        })
    }

    fn key(&self, file: &str) -> Key {
        self.prefix.clone().join(file)
    }

    fn failed(
        &self,
        action: &'static str,
        key: &Key,
    ) -> impl FnOnce(object_store::Error) -> BucketError {
        let (bucket, key) = (self.name.clone(), key.to_string());
        move |source| BucketError::Store {
            action,
            bucket,
            key,
            source: Box::new(source),
        }
    }

    /// Fails if the prefix already has any keys.
    pub async fn must_be_free(&self) -> Result<(), BucketError> {
        let mut found = self.store.list(Some(&self.prefix));
        match found.try_next().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(BucketError::NotEmpty {
                bucket: self.name.clone(),
                prefix: self.prefix.to_string(),
            }),
            Err(error) => Err(self.failed("list", &self.prefix)(error)),
        }
    }

    /// Sends the backup in `dir`. The bucket's server checks a SHA-256 of every part.
    pub async fn put(&self, dir: &Path) -> Result<(), BucketError> {
        for file in FILES {
            self.put_file(&dir.join(file), &self.key(file)).await?;
        }
        Ok(())
    }

    async fn put_file(&self, path: &Path, key: &Key) -> Result<(), BucketError> {
        let mut file = File::open(path).await.map_err(local("open", path))?;
        let len = file.metadata().await.map_err(local("stat", path))?.len();
        let part_len = PART_LEN.max(len / PARTS_MAX);
        let begun = self.store.put_multipart(key).await;
        let upload = begun.map_err(self.failed("begin", key))?;
        let part_len = usize::try_from(part_len).expect("a part is in memory");
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part_len);
        let mut bytes = vec![0; 1 << 20];
        let sent = async {
            loop {
                let read = file.read(&mut bytes).await.map_err(local("read", path))?;
                if read == 0 {
                    return Ok(());
                }
                let room = upload.wait_for_capacity(PARTS_IN_FLIGHT).await;
                room.map_err(self.failed("write", key))?;
                upload.write(&bytes[..read]);
            }
        };
        if let Err(error) = sent.await {
            // Parts that stay take space; the first error is the one reported.
            let _ = upload.abort().await;
            return Err(error);
        }
        upload.finish().await.map_err(self.failed("write", key))?;
        Ok(())
    }

    /// Fetches the backup into `dir`, which exists. The reader of the files checks them.
    pub async fn get(&self, dir: &Path) -> Result<(), BucketError> {
        for file in FILES {
            let (path, key) = (dir.join(file), self.key(file));
            let partial = dir.join(format!("{file}{PARTIAL_SUFFIX}"));
            let found = self.store.get(&key).await;
            let mut bytes = found.map_err(self.failed("read", &key))?.into_stream();
            let mut out = File::create(&partial)
                .await
                .map_err(local("create", &partial))?;
            while let Some(piece) = bytes.next().await {
                let piece = piece.map_err(self.failed("read", &key))?;
                out.write_all(&piece)
                    .await
                    .map_err(local("write", &partial))?;
            }
            out.sync_all().await.map_err(local("sync", &partial))?;
            tokio::fs::rename(&partial, &path)
                .await
                .map_err(local("make", &path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use tempfile::TempDir;

    fn bucket(prefix: &str) -> BackupBucket {
        BackupBucket {
            store: Box::new(InMemory::new()),
            name: "safe".to_owned(),
            prefix: Key::from(prefix),
        }
    }

    /// A directory with the files of a backup, each with different bytes.
    fn backup() -> TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        for file in FILES {
            std::fs::write(dir.path().join(file), content(file)).expect("write");
        }
        dir
    }

    fn content(file: &str) -> Vec<u8> {
        file.bytes().cycle().take(3 << 20).collect()
    }

    async fn keys(bucket: &BackupBucket) -> Vec<String> {
        let found: Vec<_> = bucket.store.list(None).try_collect().await.expect("list");
        let mut keys: Vec<String> = found.iter().map(|o| o.location.to_string()).collect();
        keys.sort();
        keys
    }

    #[tokio::test]
    async fn a_backup_comes_back_as_it_went_from_below_its_prefix() {
        let bucket = bucket("meta/monday");
        bucket.put(backup().path()).await.expect("put");
        let mut wanted = FILES.map(|file| format!("meta/monday/{file}"));
        wanted.sort();
        assert_eq!(keys(&bucket).await, wanted);
        let back = tempfile::tempdir().expect("temporary directory");
        bucket.get(back.path()).await.expect("get");
        for file in FILES {
            let bytes = std::fs::read(back.path().join(file)).expect("read");
            assert!(bytes == content(file), "{file} has other bytes");
        }
        let left = std::fs::read_dir(back.path()).expect("list").count();
        assert_eq!(left, FILES.len(), "nothing partial stays");
    }

    #[tokio::test]
    async fn a_prefix_with_something_below_it_is_refused() {
        let bucket = bucket("meta/monday");
        bucket.must_be_free().await.expect("empty");
        bucket.put(backup().path()).await.expect("put");
        let error = bucket.must_be_free().await.expect_err("taken");
        let said = "s3://safe/meta/monday is not empty: nothing was changed";
        assert_eq!(error.to_string(), said);
    }

    #[tokio::test]
    async fn a_backup_whose_last_file_is_missing_is_none() {
        let dir = backup();
        let [_, card] = FILES;
        std::fs::remove_file(dir.path().join(card)).expect("remove");
        let bucket = bucket("meta/monday");
        bucket.put(dir.path()).await.expect_err("cut off");
        let back = tempfile::tempdir().expect("temporary directory");
        let error = bucket.get(back.path()).await.expect_err("no card");
        let said = format!("read s3://safe/meta/monday/{card}");
        assert_eq!(error.to_string(), said);
        assert!(!back.path().join(card).exists());
    }
}
