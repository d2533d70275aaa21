//! Injected faults (`TranslateFault`).

use super::cors::percent;
use super::note::{Notes, time};
use crate::message;
use crds::Reason;
use crds::networking::{FaultAbort, FaultDelay, HttpFaultInjection};
use xds::envoy::fault::fault_abort::ErrorType;
use xds::envoy::fault_common::fault_delay::FaultDelaySecifier;
use xds::envoy::{fault as envoy, fault_common};

pub(super) const FILTER: &str = "envoy.filters.http.fault";

/// `None`: nothing that Envoy can inject. What is wrong is left out alone: the route works without its faults.
pub(super) fn http_fault(from: &HttpFaultInjection, field: &str, notes: &mut Notes<'_>) -> Option<envoy::HttpFault> {
    let delay = from.delay.as_ref().and_then(|it| delay(it, &format!("{field}.delay"), notes));
    let abort = from.abort.as_ref().and_then(|it| abort(it, &format!("{field}.abort"), notes));
    if delay.is_none() && abort.is_none() {
        return None;
    }
    Some(envoy::HttpFault { delay, abort, ..envoy::HttpFault::default() })
}

fn delay(from: &FaultDelay, field: &str, notes: &mut Notes<'_>) -> Option<fault_common::FaultDelay> {
    let Some(fixed) = from.fixed_delay else {
        let why = "only fixedDelay is supported, by Istio as well";
        notes.add(field, Reason::Ineffective(why.into()));
        return None;
    };
    let field = format!("{field}.fixedDelay");
    if fixed.0.is_zero() {
        notes.add(field, Reason::Invalid("a delay must be longer than nothing".into()));
        return None;
    }
    let fixed = match time(fixed, &field) {
        Ok(fixed) => fixed,
        Err(flaw) => {
            notes.add(flaw.field, flaw.reason);
            return None;
        }
    };
    let percentage = match &from.percentage {
        Some(percentage) => message::fractional_percent(percentage.value),
        None => Some(percent(u32::try_from(from.percent.unwrap_or_default()).unwrap_or_default())),
    };
    let fault_delay_secifier = message::duration(fixed).map(FaultDelaySecifier::FixedDelay);
    Some(fault_common::FaultDelay { percentage, fault_delay_secifier })
}

fn abort(from: &FaultAbort, field: &str, notes: &mut Notes<'_>) -> Option<envoy::FaultAbort> {
    let error = match (from.http_status, from.grpc_status.as_deref()) {
        (Some(status), _) => match u32::try_from(status).ok().filter(|it| (200..600).contains(it)) {
            Some(status) => Ok(ErrorType::HttpStatus(status)),
            None => Err((".httpStatus", Reason::Invalid(format!("{status} is not a status from 200 to 599")))),
        },
        (None, Some(name)) => match crds::grpc_status::number(name) {
            Some(status) => Ok(ErrorType::GrpcStatus(status)),
            None => Err((".grpcStatus", Reason::Invalid(format!("{name} is not a gRPC status")))),
        },
        (None, None) => {
            Err(("", Reason::Ineffective("only httpStatus and grpcStatus are supported, by Istio as well".into())))
        }
    };
    match error {
        Ok(error) => Some(envoy::FaultAbort {
            percentage: from.percentage.as_ref().and_then(|it| message::fractional_percent(it.value)),
            error_type: Some(error),
            ..envoy::FaultAbort::default()
        }),
        Err((key, reason)) => {
            notes.add(format!("{field}{key}"), reason);
            None
        }
    }
}
