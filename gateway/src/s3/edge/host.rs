//! Finds the bucket that a host name stands for.

/// The names under which the gateway is reached. `bucket.<name>` is that bucket; requests to any
/// other host, such as an address or a service's name, are path style.
#[derive(Debug)]
pub(super) struct BaseDomains {
    domains: Vec<String>,
}

impl BaseDomains {
    /// Takes the names; ignores upper case and a port.
    #[must_use]
    pub(super) fn new(domains: &[String]) -> Self {
        let mut domains: Vec<String> = domains
            .iter()
            .map(|domain| bare(domain))
            .filter(|name| !name.is_empty())
            .collect();
        // Longest first, so that of two nested names the inner one is found.
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        Self { domains }
    }

    /// Finds the bucket in a host name.
    #[must_use]
    pub(super) fn bucket(&self, host: &str) -> Option<String> {
        let host = bare(host);
        if self.domains.contains(&host) {
            return None;
        }
        let found = |domain: &String| {
            let bucket = host.strip_suffix(domain.as_str())?.strip_suffix('.')?;
            (!bucket.is_empty()).then(|| bucket.to_owned())
        };
        self.domains.iter().find_map(found)
    }
}

/// Returns a host name in lower case, without its port and trailing dot.
fn bare(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_stand_before_a_base_domain() {
        let domains = BaseDomains::new(&["s3.example.org".to_owned(), "localhost:9000".to_owned()]);
        let bucket = |host: &str| domains.bucket(host);
        assert_eq!(bucket("s3.example.org"), None);
        assert_eq!(bucket("photos.s3.example.org").as_deref(), Some("photos"));
        assert_eq!(
            bucket("My.Photos.S3.Example.org:8443").as_deref(),
            Some("my.photos")
        );
        assert_eq!(bucket("photos.localhost").as_deref(), Some("photos"));
        assert_eq!(bucket("evils3.example.org"), None);
        assert_eq!(bucket("gateway-7.cluster.local"), None);
        assert_eq!(bucket(".s3.example.org"), None);
        assert_eq!(BaseDomains::new(&[]).bucket("a.b.c"), None);
    }
}
