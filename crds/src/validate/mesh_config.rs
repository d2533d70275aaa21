//! Rules for MeshConfig's fields, one function a rule; [`crate::decode::mesh_config`] names the rule of each field.

// A rule takes the field's own type.
#![allow(clippy::ptr_arg)]

use super::report::Report;
use super::rule::{self, ExportsToNobody};
use super::{locality, traffic_policy};
use crate::mesh_config::{CertificateData, DefaultTrafficPolicy, ServiceSettings};
use crate::networking::{HttpRetry, LocalityLbSetting};
use crate::object::Kind;
use crate::{Duration, ObjectKey, Severity};

type Rule = Result<(), String>;

/// The type says it all.
pub(crate) fn any<T>(_: &T) -> Rule {
    Ok(())
}

pub(crate) fn namespace(name: &String) -> Rule {
    rule::namespace(name)
}

pub(crate) fn trust_domain(domain: &String) -> Rule {
    let labels = domain.strip_suffix('.').unwrap_or(domain);
    match labels.split('.').all(rule::is_label) {
        true => Ok(()),
        false => Err(format!("trust domain name {domain:?} invalid")),
    }
}

pub(crate) fn trust_domains(domains: &Vec<String>) -> Rule {
    domains.iter().try_for_each(trust_domain)
}

/// What is between the lines, agents look at: one bad certificate is left out alone there.
pub(crate) fn ca_certificates(certificates: &Vec<CertificateData>) -> Rule {
    let is_pem = |it: &CertificateData| it.pem.is_empty() || it.pem.contains("-----BEGIN CERTIFICATE-----");
    match certificates.iter().all(is_pem) {
        true => Ok(()),
        false => Err("pem holds no certificate".into()),
    }
}

pub(crate) fn port(number: &u16) -> Rule {
    rule::port((*number).into())
}

pub(crate) fn duration(duration: &Duration) -> Rule {
    rule::duration(*duration)
}

pub(crate) fn connect_timeout(timeout: &Duration) -> Rule {
    rule::duration(*timeout)?;
    match *timeout > Duration::from_secs(3600) {
        true => Err("time must be between 1ms and 1h".into()),
        false => Ok(()),
    }
}

/// Zero waits forever.
pub(crate) fn whole_millis(duration: &Duration) -> Rule {
    rule::whole_millis(*duration)
}

pub(crate) fn whole_seconds(duration: &Option<Duration>) -> Rule {
    rule::optional_duration(*duration)?;
    match duration.is_some_and(|duration| duration.0.subsec_nanos() != 0) {
        true => Err("drain time only supports durations to seconds precision".into()),
        false => Ok(()),
    }
}

pub(crate) fn export_to(entries: &Vec<String>) -> Rule {
    rule::export_to(entries, ".", ExportsToNobody::Allowed)
}

pub(crate) fn locality_lb_setting(setting: &LocalityLbSetting) -> Rule {
    first(locality::setting(setting).into_iter())
}

pub(crate) fn http_retry(retry: &Option<HttpRetry>) -> Rule {
    let wrong = retry.iter().flat_map(rule::http_retry);
    first(wrong.map(|(field, why)| (field.to_owned(), why)))
}

pub(crate) fn service_settings(settings: &Vec<ServiceSettings>) -> Rule {
    settings.iter().flat_map(|settings| &settings.hosts).try_for_each(|host| rule::wildcard_domain(host))
}

pub(crate) fn default_traffic_policy(policy: &DefaultTrafficPolicy) -> Rule {
    let key = ObjectKey::new(Kind::ConfigMap, "", "");
    let mut report = Report::new(&key);
    if let Some(pool) = &policy.connection_pool {
        traffic_policy::connection_pool(pool, "connectionPool", &mut report);
    }
    if let Some(outlier) = &policy.outlier_detection {
        traffic_policy::outlier_detection(outlier, "outlierDetection", &mut report);
    }
    let errors = report.into_problems().into_iter().filter(|problem| problem.severity() == Severity::Error);
    first(errors.map(|problem| (problem.field, problem.reason.to_string())))
}

fn first(mut wrong: impl Iterator<Item = (String, String)>) -> Rule {
    wrong.next().map_or(Ok(()), |(field, why)| Err(format!("{field}: {why}")))
}
