//! The names under which a service is called (`generateVirtualHostDomains`).

use crate::name;
use model::{Hostname, Registry, Resolution, Service, host::DOMAIN};
use std::net::IpAddr;

/// How domains are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainForm {
    /// In the table of a port, where Envoy strips the port off the request's host.
    Plain,
    /// In an HTTP proxy's table, where all ports meet: each name with its port, on port 80 also without.
    WithPort,
    /// In the table of one sniffed service (`host:port`), which is the only one at its address: any name at all.
    Any,
}

/// The domains of a service port's virtual host as a client in a namespace may write them, best-known name first.
pub fn domains(service: &Service, port: u16, client_namespace: &str, form: DomainForm) -> Vec<String> {
    if form == DomainForm::Any {
        return vec!["*".into()];
    }
    let hosts = std::iter::once(&service.key.host).chain(&service.aliases);
    let mut names: Vec<String> = hosts.flat_map(|host| host_names(host, client_namespace)).collect();
    if service.registry == Registry::Kubernetes && service.resolution == Resolution::Passthrough {
        // Pods of a headless Service have names under it.
        let pods: Vec<String> = names.iter().map(|it| format!("*.{it}")).collect();
        names.extend(pods);
    }
    // A whole network is nobody's name.
    let addresses = service.addresses.iter().filter(|net| net.prefix_len() == net.max_prefix_len());
    names.extend(addresses.map(|net| net.addr()).chain(service.allocated.iter().copied()).map(bracketed));
    let mut domains: Vec<String> = vec![];
    for name in names {
        let written = match form {
            DomainForm::WithPort if port == 80 => vec![name.clone(), with_port(&name, port)],
            DomainForm::WithPort => vec![with_port(&name, port)],
            _ => vec![name],
        };
        domains.extend(written.into_iter().filter(|it| !domains.contains(it)).collect::<Vec<_>>());
    }
    domains
}

/// A host, the same with the final dot of an absolute name, and a Kubernetes Service's short forms.
fn host_names(host: &Hostname, client_namespace: &str) -> Vec<String> {
    if let Ok(ip) = host.as_str().parse::<IpAddr>() {
        return vec![bracketed(ip)];
    }
    let mut names = vec![host.to_string(), format!("{host}.")];
    if let Some((service, namespace)) = host.kube_name() {
        let (middle, long) = (format!("{service}.{namespace}"), format!("{service}.{namespace}.svc"));
        match namespace == client_namespace {
            true => names.extend([service.to_owned(), long, middle]),
            false => names.extend([middle, long]),
        }
    } else if let Some(shared) = host.as_str().strip_suffix(DOMAIN).and_then(|it| it.strip_suffix(".svc."))
        && shared.contains('.')
    {
        // A name of more parts than Kubernetes gives: Istio only cuts the domain off.
        names.extend([shared.to_owned(), format!("{shared}.svc")]);
    }
    names
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn with_port(host: &str, port: u16) -> String {
    name::VirtualHost { host, port }.to_string()
}
