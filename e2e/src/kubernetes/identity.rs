//! Who gets what: tokens, certificate requests, nodes that lie, and the root that everybody needs.

use super::bench::{Bench, LIMIT, Pod, until};
use anyhow::{Context, Result, bail, ensure};
use ca::key::{KeyKind, KeyPem};
use ca::spiffe::Identity;
use ca::tls::{channel, client_config};
use ca::wire::{Client, IstioCertificateRequest};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};
use xds::{Protocol, TypeUrl};

/// How istiod is called inside the cluster; its certificate has the name.
const NAME: &str = "istiod.istio-system.svc";

pub(super) fn tokens(bench: &Bench) -> Result<String> {
    let pod = bench.pod("default", "app=details")?;
    let good = token(bench, "istio-ca", Some(&pod))?;
    let csr = request(&identity("default", "bookinfo-details"))?.1;
    ensure!(sign(bench, Some(&good), &csr)?.is_ok(), "a good token is refused");
    let foreign = token(bench, "somebody-else", Some(&pod))?;
    let mut of_the_dead = String::new();
    let name = "short-lived";
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: outside}}\nspec: {{containers: [{{name: a, image: 'local/pause:1'}}]}}\n"
    );
    bench.apply(&manifest)?;
    let pods = until("its pod", LIMIT, || bench.json(&["get", "pod", name, "--namespace=outside"]))?;
    let uid = pods["metadata"]["uid"].as_str().context("a pod has a uid")?.to_owned();
    of_the_dead.push_str(&bound_token(bench, "istio-ca", "outside", "default", name, &uid)?);
    bench.kubectl(&["delete", "pod", name, "--namespace=outside", "--grace-period=0", "--force"])?;
    let mut lines = vec!["a good token: signed".to_owned()];
    for (what, token) in [
        ("of another audience", Some(foreign.as_str())),
        ("garbage", Some("not.a.token")),
        ("none at all", None),
        ("of a deleted pod", Some(of_the_dead.as_str())),
    ] {
        match sign(bench, token, &csr)? {
            Err(status) if status.code() == Code::Unauthenticated => {
                ensure!(!status.message().contains("audience"), "s09: details for the client: {}", status.message());
                lines.push(format!("a token {what}: Unauthenticated"));
            }
            other => bail!("a token {what} came to {other:?}"),
        }
    }
    Ok(lines.join("\n"))
}

pub(super) fn requests(bench: &Bench) -> Result<String> {
    let pod = bench.pod("default", "app=details")?;
    let token = token(bench, "istio-ca", Some(&pod))?;
    let other = request(&identity("istio-system", "istiod"))?.1;
    let mut lines = vec![];
    match sign(bench, Some(&token), &other)? {
        Err(status) => lines.push(format!("a CSR for istiod's identity: {:?}", status.code())),
        Ok(chain) => {
            let leaf = chain.first().context("a chain has a leaf")?;
            bail!("s11: a CSR for istiod's identity was signed for a caller of details: {leaf}");
        }
    }
    let good = request(&identity("default", "bookinfo-details"))?.1;
    for (what, csr) in
        [("garbage", "not a request".to_owned()), ("cut in half", good.chars().take(good.len() / 2).collect())]
    {
        match sign(bench, Some(&token), &csr)? {
            Err(status) if status.code() == Code::InvalidArgument => lines.push(format!("{what}: InvalidArgument")),
            other => bail!("{what} came to {other:?}"),
        }
    }
    match sign(bench, Some(&token), WEAK)? {
        Err(status) if status.code() == Code::InvalidArgument => {
            lines.push("RSA of 1024 bits: InvalidArgument".to_owned())
        }
        other => bail!("s12: a weak key came to {other:?}"),
    }
    Ok(lines.join("\n"))
}

/// With a certificate of its own it says that it is a gateway, by type and by labels; its Pod object says otherwise.
pub(super) fn liar(bench: &Bench) -> Result<String> {
    let pod = bench.pod("default", "app=details")?;
    let token = token(bench, "istio-ca", Some(&pod))?;
    let own = identity("default", "bookinfo-details");
    let (key, csr) = request(&own)?;
    let chain = match sign(bench, Some(&token), &csr)? {
        Ok(chain) => chain.concat(),
        Err(status) => bail!("a good request is refused: {status}"),
    };
    let honest = listeners(bench, &chain, &key, &node("sidecar", &pod, "app", "details"))?;
    let Ok(honest) = honest else { bail!("an honest node is refused: {honest:?}") };
    ensure!(honest.iter().any(|it| it == "virtualInbound"), "an honest sidecar has no inbound listener: {honest:?}");
    let lies = listeners(bench, &chain, &key, &node("router", &pod, "istio", "ingressgateway"))?;
    let lies = lies.unwrap_or_default();
    ensure!(lies.is_empty(), "s16: who calls itself a gateway got the gateway's listeners: {lies:?}");
    let other = bench.pod("default", "app=ratings")?;
    match listeners(bench, &chain, &key, &node("sidecar", &other, "app", "ratings"))? {
        Err(status) if status.code() == Code::PermissionDenied => {}
        other => bail!("s14: a node of another pod came to {other:?}"),
    }
    Ok(format!(
        "honest: {} listeners; labels of a gateway: none; another workload's name: PermissionDenied",
        honest.len()
    ))
}

pub(super) fn roots(bench: &Bench) -> Result<String> {
    let read = |bench: &Bench| -> Result<String> {
        let map = bench.json(&["get", "configmap", "istio-ca-root-cert", "--namespace=outside"])?;
        Ok(map["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned())
    };
    let right = read(bench)?;
    ensure!(right.contains("BEGIN CERTIFICATE"), "there is no root in namespace outside");
    let limit = Duration::from_secs(10);
    let patch = json!({"data": {"root-cert.pem": "edited"}}).to_string();
    bench.kubectl(&[
        "patch",
        "configmap",
        "istio-ca-root-cert",
        "--namespace=outside",
        "--type=merge",
        "--patch",
        &patch,
    ])?;
    let back = |bench: &Bench| {
        ensure!(read(bench)? == right, "it is not right yet");
        Ok(())
    };
    until("the edited root", limit, || back(bench))?;
    bench.kubectl(&["delete", "configmap", "istio-ca-root-cert", "--namespace=outside"])?;
    until("the deleted root", limit, || back(bench))?;
    bench.kubectl(&["create", "namespace", "later"])?;
    until("a new namespace's root", limit, || {
        bench.kubectl(&["get", "configmap", "istio-ca-root-cert", "--namespace=later"]).map(drop)
    })?;
    Ok("edited, deleted and in a new namespace: right within 10 s".to_owned())
}

fn identity(namespace: &str, account: &str) -> Identity {
    Identity::new("cluster.local", namespace, account)
}

fn request(identity: &Identity) -> Result<(KeyPem, String)> {
    Ok(ca::csr::request(identity, KeyKind::P256)?)
}

/// Of the pod's own service account, bound to it as the kubelet's are.
fn token(bench: &Bench, audience: &str, pod: Option<&Pod>) -> Result<String> {
    let pod = pod.context("a pod")?;
    let account = pod.object["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let uid = pod.object["metadata"]["uid"].as_str().unwrap_or_default();
    bound_token(bench, audience, &pod.namespace, account, &pod.name, uid)
}

fn bound_token(bench: &Bench, audience: &str, namespace: &str, account: &str, pod: &str, uid: &str) -> Result<String> {
    let audience = format!("--audience={audience}");
    let (name, uid) = (format!("--bound-object-name={pod}"), format!("--bound-object-uid={uid}"));
    let arguments =
        ["create", "token", account, "--namespace", namespace, &audience, "--bound-object-kind=Pod", &name, &uid];
    Ok(bench.kubectl(&arguments)?.trim().to_owned())
}

/// What istiod answers to a request, asked from inside the cluster's network.
fn sign(bench: &Bench, token: Option<&str>, csr: &str) -> Result<Result<Vec<String>, Status>> {
    let (token, csr) = (token.map(str::to_owned), csr.to_owned());
    inside(bench, None, move |channel| {
        Box::pin(async move {
            let mut client = Client::new(channel, "Kubernetes");
            let request = IstioCertificateRequest { csr, validity_duration: 3600, metadata: None };
            client.create_certificate(token.as_deref(), request).await.map(|it| it.cert_chain)
        })
    })
}

/// The names of the listeners that a node is sent; a stream that brings none within the limit has none.
fn listeners(
    bench: &Bench,
    chain: &str,
    key: &KeyPem,
    node: &xds::envoy::core::Node,
) -> Result<Result<Vec<String>, Status>> {
    let node = node.clone();
    inside(bench, Some((chain.to_owned(), key.clone())), move |channel| {
        Box::pin(async move {
            let mut client = xds::client::Client::open(channel, Protocol::Delta, node).await?;
            client.subscribe_all(TypeUrl::Listener).await?;
            // Who is sent nothing has nothing.
            if let Ok(Err(status)) = tokio::time::timeout(ANSWER_MAX, client.next()).await {
                return Err(status);
            }
            Ok(client.session().known(TypeUrl::Listener).map(|(name, _)| name.to_owned()).collect())
        })
    })
}

fn node(kind: &str, pod: &Pod, label: &str, value: &str) -> xds::envoy::core::Node {
    let id = format!("{kind}~{}~{}.{}~{}.svc.cluster.local", pod.ip, pod.name, pod.namespace, pod.namespace);
    let metadata = json!({"id": id, "metadata": {"LABELS": {label: value}, "NAMESPACE": pod.namespace}});
    xds::json::parse(&metadata).expect("a node of this file")
}

/// Longer than istiod waits for a pod that it has not seen.
const ANSWER_MAX: Duration = Duration::from_secs(8);

/// A request with an RSA key of 1024 bits; the key was thrown away.
const WEAK: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
MIIBkjCB/AIBADAAMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQClRcVlViCW\n\
JBp56FZYVeHLM6cFFYS5rJw3poetMulWJBoMgD1X5AjR0tLO3Ny+qhSbbFW0BNaZ\n\
VK4rzoqPxWDtUFXQKr78J84fkGptaPRZTKHSnEeBii/RHPq4zodvsiVM0JOQTNQT\n\
IYekj3Ip15s4+F6aUwtSLEc4pqWYsp9k2wIDAQABoFMwUQYJKoZIhvcNAQkOMUQw\n\
QjBABgNVHREEOTA3hjVzcGlmZmU6Ly9jbHVzdGVyLmxvY2FsL25zL2RlZmF1bHQv\n\
c2EvYm9va2luZm8tZGV0YWlsczANBgkqhkiG9w0BAQsFAAOBgQBjEIkUcz3fWJEV\n\
Ka8wz3a18C7vp/JwwROGs8AeUWjv+PurKFBiMqfXsinQI+W55BxxEQZutVr+VHLS\n\
3yIRAARWIa5UMOb5unuy6zm+rTIUYX2aTU6DRsHAyjeWrardrW+KRHViTtCbVPNX\n\
3qwgWLdU/OslxoJsXUk89U7Y+IWymA==\n\
-----END CERTIFICATE REQUEST-----\n";

type Asked<T> = std::pin::Pin<Box<dyn Future<Output = Result<T, Status>>>>;

/// A call to istiod's TLS port, with or without a certificate, on a thread in the cluster's network.
fn inside<T: Send + 'static>(
    bench: &Bench,
    certificate: Option<(String, KeyPem)>,
    call: impl FnOnce(Channel) -> Asked<T> + Send + 'static,
) -> Result<Result<T, Status>> {
    let map = bench.json(&["get", "configmap", "istio-ca-root-cert", "--namespace=default"])?;
    let roots = map["data"]["root-cert.pem"].as_str().context("the root")?.to_owned();
    let service = bench.json(&["get", "service", "istiod", "--namespace=istio-system"])?;
    let address = format!("{}:15012", service["spec"]["clusterIP"].as_str().context("a ClusterIP")?);
    let (sender, receiver) = std::sync::mpsc::channel();
    bench.cluster.inside(Box::new(move || {
        let work = || -> Result<Result<T, Status>> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let certificate = certificate.as_ref().map(|(chain, key)| (chain.as_str(), key));
                let config = Arc::new(client_config(&roots, certificate)?);
                let channel = channel(&address, NAME, Arc::new(move || Ok(config.clone())))?;
                Ok(call(channel).await)
            })
        };
        // The other end waits below.
        _ = sender.send(work());
    }))?;
    receiver.recv().context("the call's thread is gone")?
}
