//! `navarch discovery`: istiod's flags, with istiod's names and defaults
//! (<https://istio.io/latest/docs/reference/commands/pilot-discovery/#pilot-discovery-discovery>).
//!
//! Flags that only make sense for istiod's own insides are accepted, and said to do nothing.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug, clap::Args)]
pub struct Discovery {
    /// HTTP with /ready and /debug
    #[arg(long = "httpAddr", value_name = "ADDRESS", default_value = ":8080", value_parser = address)]
    pub http: Listen,
    /// HTTPS with the webhooks
    #[arg(long = "httpsAddr", value_name = "ADDRESS", default_value = ":15017", value_parser = address)]
    pub https: Listen,
    /// Plain-text gRPC: xDS for anybody who can reach it; closed unless given
    #[arg(long = "grpcAddr", value_name = "ADDRESS", default_value = "", value_parser = address)]
    pub grpc: Listen,
    /// gRPC over TLS: xDS and certificates
    #[arg(long = "secureGRPCAddr", value_name = "ADDRESS", default_value = ":15012", value_parser = address)]
    pub secure_grpc: Listen,
    /// HTTP with /metrics and /version
    #[arg(long = "monitoringAddr", value_name = "ADDRESS", default_value = ":15014", value_parser = address)]
    pub monitoring: Listen,
    /// Kubernetes' DNS domain
    #[arg(long, default_value = "cluster.local")]
    pub domain: String,
    /// Of this cluster's registry
    #[arg(long = "clusterID", value_name = "ID", env = "CLUSTER_ID", default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Instead of the service account of the pod this runs in
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// MeshConfig for a start without its ConfigMap
    #[arg(long = "meshConfig", value_name = "FILE", default_value = "./etc/istio/config/mesh")]
    pub mesh_config: PathBuf,
    /// Where istiod itself lives
    #[arg(short, long, env = "POD_NAMESPACE", default_value = "istio-system")]
    pub namespace: String,
    /// How long open streams may take to end
    #[arg(long = "shutdownDuration", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub shutdown: std::time::Duration,
    /// Streams are closed after so long, so that proxies spread over replicas
    #[arg(long = "keepaliveMaxServerConnectionAge", value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub stream_age_max: std::time::Duration,
    /// SCOPE:LEVEL,… or a level for all
    #[arg(long = "log_output_level", value_name = "LEVELS", default_value = "default:info")]
    pub log_output_level: String,
    /// Log JSON, one object a line
    #[arg(long = "log_as_json", num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    pub log_as_json: bool,
    #[command(flatten)]
    pub accepted: Accepted,
}

/// istiod's flags that change nothing here.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Accepted, without effect")]
pub struct Accepted {
    #[arg(long)]
    pub registries: Option<String>,
    #[arg(long = "clusterRegistriesNamespace")]
    pub cluster_registries_namespace: Option<String>,
    #[arg(long = "networksConfig")]
    pub networks_config: Option<String>,
    #[arg(long = "cniNamespace")]
    pub cni_namespace: Option<String>,
    #[arg(long = "clusterAliases")]
    pub cluster_aliases: Option<String>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub profile: Option<String>,
    #[arg(long = "kubernetesApiQPS")]
    pub kubernetes_api_qps: Option<String>,
    #[arg(long = "kubernetesApiBurst")]
    pub kubernetes_api_burst: Option<String>,
    #[arg(long = "keepaliveInterval")]
    pub keepalive_interval: Option<String>,
    #[arg(long = "keepaliveTimeout")]
    pub keepalive_timeout: Option<String>,
    #[arg(long = "ctrlz_port")]
    pub ctrlz_port: Option<String>,
    #[arg(long = "ctrlz_address")]
    pub ctrlz_address: Option<String>,
    #[arg(long = "log_target")]
    pub log_target: Option<String>,
    #[arg(long = "log_caller")]
    pub log_caller: Option<String>,
    #[arg(long = "log_stacktrace_level")]
    pub log_stacktrace_level: Option<String>,
    #[arg(long = "log_rotate")]
    pub log_rotate: Option<String>,
}

impl Accepted {
    /// The names of those that were given.
    pub fn given(&self) -> Vec<&'static str> {
        let all = [
            ("--registries", &self.registries),
            ("--clusterRegistriesNamespace", &self.cluster_registries_namespace),
            ("--networksConfig", &self.networks_config),
            ("--cniNamespace", &self.cni_namespace),
            ("--clusterAliases", &self.cluster_aliases),
            ("--profile", &self.profile),
            ("--kubernetesApiQPS", &self.kubernetes_api_qps),
            ("--kubernetesApiBurst", &self.kubernetes_api_burst),
            ("--keepaliveInterval", &self.keepalive_interval),
            ("--keepaliveTimeout", &self.keepalive_timeout),
            ("--ctrlz_port", &self.ctrlz_port),
            ("--ctrlz_address", &self.ctrlz_address),
            ("--log_target", &self.log_target),
            ("--log_caller", &self.log_caller),
            ("--log_stacktrace_level", &self.log_stacktrace_level),
            ("--log_rotate", &self.log_rotate),
        ];
        all.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect()
    }
}

/// Where to listen, or not to: the empty text.
pub(super) type Listen = Option<SocketAddr>;

/// Go's notation: `:8080` is every address.
fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    let full = match text {
        "" => return Ok(None),
        text if text.starts_with(':') => format!("0.0.0.0{text}"),
        text => text.replace("localhost:", "127.0.0.1:"),
    };
    full.parse().map(Some).map_err(|_| format!("{text:?} is not HOST:PORT or :PORT"))
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    crds::Duration::parse(text).map(|it| it.0)
}

#[cfg(test)]
mod tests {
    use crate::args::{Args, Command};
    use clap::Parser;

    #[test]
    fn istiod_s_own_command_line_is_understood() {
        let line = "pilot-discovery discovery --monitoringAddr=:15014 --log_output_level=default:info --domain cluster.local \
                    --keepaliveMaxServerConnectionAge 30m --ctrlz_port 9876 --profile=false --httpAddr localhost:9080";
        let Command::Discovery(it) = Args::parse_from(line.split_whitespace()).command else { panic!("not discovery") };
        assert_eq!(it.monitoring.unwrap().to_string(), "0.0.0.0:15014");
        assert_eq!(it.http.unwrap().to_string(), "127.0.0.1:9080");
        assert_eq!(it.stream_age_max.as_secs(), 1800);
        assert_eq!(it.accepted.given(), ["--profile", "--ctrlz_port"]);
        assert_eq!(it.grpc, None, "S1: plain text is closed unless it is asked for");
    }

    #[test]
    fn a_flag_that_istiod_does_not_have_is_an_error_with_a_hint() {
        let error = Args::try_parse_from(["navarch", "discovery", "--monitoringAdr=:1"]).unwrap_err().to_string();
        assert!(error.contains("--monitoringAddr"), "{error}");
    }
}
