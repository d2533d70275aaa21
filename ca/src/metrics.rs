//! What the CA counts, under Istio's names.
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::SystemTime;

/// One for the process; shared by reference.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) csr: Counter,
    pub(crate) authentication_failure: Counter,
    pub(crate) csr_parsing_error: Counter,
    pub(crate) id_extraction_error: Counter,
    pub(crate) csr_sign_error: Counter,
    pub(crate) success: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) root_bundle_refused: Counter,
    root_expiry_s: AtomicI64,
    chain_expiry_s: AtomicI64,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// Called whenever another authority becomes the current one; times in seconds since 1970.
    pub(crate) fn expiry(&self, root_s: i64, chain_s: i64) {
        self.root_expiry_s.store(root_s, Ordering::Relaxed);
        self.chain_expiry_s.store(chain_s, Ordering::Relaxed);
    }

    /// Appends everything in Prometheus' text form.
    pub fn render(&self, out: &mut String) {
        self.render_at(out, SystemTime::now());
    }

    fn render_at(&self, out: &mut String, now: SystemTime) {
        for (name, help, counter) in [
            ("csr_count", "Certificate signing requests received.", &self.csr),
            (
                "authentication_failure_count",
                "Requests whose sender could not be authenticated.",
                &self.authentication_failure,
            ),
            ("csr_parsing_err_count", "Requests that could not be read.", &self.csr_parsing_error),
            ("id_extraction_err_count", "Requests that asked for another identity.", &self.id_extraction_error),
            ("csr_sign_err_count", "Requests that could be read but not signed.", &self.csr_sign_error),
            ("success_cert_issuance_count", "Certificates issued.", &self.success),
            ("rate_limited_count", "Requests refused because their sender asks too often.", &self.rate_limited),
            (
                "bundle_refused_count",
                "New signing bundles that were refused; the old one stayed.",
                &self.root_bundle_refused,
            ),
        ] {
            let value = counter.value();
            let _ = write!(
                out,
                "# HELP citadel_server_{name} {help}\n# TYPE citadel_server_{name} counter\ncitadel_server_{name} {value}\n"
            );
        }
        let now_s = crate::clock::unix_s(now);
        for (name, help, expiry) in [
            ("root_cert", "the root certificate expires", &self.root_expiry_s),
            ("cert_chain", "the signing certificate expires", &self.chain_expiry_s),
        ] {
            let at = expiry.load(Ordering::Relaxed);
            let left = at.saturating_sub(now_s);
            let _ = write!(
                out,
                "# HELP citadel_server_{name}_expiry_timestamp When {help}, in seconds since 1970.\n\
                 # TYPE citadel_server_{name}_expiry_timestamp gauge\ncitadel_server_{name}_expiry_timestamp {at}\n\
                 # HELP citadel_server_{name}_expiry_seconds Seconds until {help}.\n\
                 # TYPE citadel_server_{name}_expiry_seconds gauge\ncitadel_server_{name}_expiry_seconds {left}\n"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn names_are_istios() {
        let metrics = Metrics::default();
        metrics.csr.increment();
        metrics.expiry(1000, 500);
        let mut out = String::new();
        metrics.render_at(&mut out, UNIX_EPOCH + Duration::from_secs(600));
        for line in [
            "citadel_server_csr_count 1",
            "citadel_server_success_cert_issuance_count 0",
            "citadel_server_root_cert_expiry_timestamp 1000",
            "citadel_server_root_cert_expiry_seconds 400",
            "citadel_server_cert_chain_expiry_seconds -100",
        ] {
            assert!(out.lines().any(|found| found == line), "{line}\n{out}");
        }
    }
}
