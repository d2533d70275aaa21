//! Logging: to standard error, as `RUST_LOG` says or as istiod's `--log_output_level` does.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How a program logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    /// One object a line (`--log_as_json`).
    Json,
}

/// Once, at the start. `levels` is Istio's notation, `RUST_LOG` wins.
pub fn start(levels: &str, format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives(levels)));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let subscriber = subscriber.with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => subscriber.init(),
        Format::Json => subscriber.json().init(),
    }
}

/// `default:info,ads:debug` in tracing's notation. Scopes of istiod that have no part of their own here are left out.
fn directives(levels: &str) -> String {
    let each = levels.split(',').filter_map(|part| {
        let (scope, level) = part.trim().rsplit_once(':').unwrap_or_else(|| ("default", part.trim()));
        let level = match level {
            "none" => "off",
            "fatal" => "error",
            other => other,
        };
        match scope {
            "default" | "all" => Some(level.to_owned()),
            "ads" | "xdsproxy" => Some(format!("xds={level},agent={level}")),
            "ca" | "serverca" | "authn" | "pkica" => Some(format!("ca={level}")),
            "kube" | "krt" => Some(format!("source={level}")),
            "injection" | "validation" => Some(format!("webhook={level}")),
            "model" | "push" | "delta" => Some(format!("controller={level}")),
            _ => None,
        }
    });
    let all: Vec<String> = each.collect();
    let levels = if all.is_empty() { "info".to_owned() } else { all.join(",") };
    format!("{levels},{QUIET}")
}

/// The client library logs each failed attempt as an error; whoever called it says what came of it.
const QUIET: &str = "kube_client::client::builder=off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istio_s_scopes_become_our_crates() {
        for (levels, expected) in [
            ("default:info", "info"),
            ("info", "info"),
            ("default:warn,ca:debug", "warn,ca=debug"),
            ("all:none", "off"),
            ("rbac:debug", "info"),
        ] {
            assert_eq!(directives(levels), format!("{expected},{QUIET}"));
        }
    }
}
