//! The program renders the charts as Helm does, where there is a Helm to compare with.

use deploy::chart::{self, Chart, Release};
use deploy::{kind, value};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

#[test]
fn charts_render_as_helm_renders_them() {
    let helm = std::env::var("HELM").unwrap_or_else(|_| "helm".into());
    match Command::new(&helm).arg("version").output() {
        Ok(output) if output.status.success() => {}
        _ => {
            eprintln!("skipped: no helm on the PATH, nor in HELM");
            return;
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (chart, namespace, set) in CASES {
        let mut values = json!({});
        for argument in *set {
            value::set(&mut values, argument).expect("valid");
        }
        let file = folder.path().join("values.json");
        std::fs::write(&file, values.to_string()).expect("it can be written");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts").join(chart.name());
        let output = Command::new(&helm)
            .args(["template", "a-release", "-n", namespace, "-f"])
            .arg(&file)
            .arg(&root)
            .output()
            .expect("helm runs");
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {set:?}: {problem}", chart.name());
        let helms = crds::yaml::documents(&String::from_utf8_lossy(&output.stdout));
        let helms = helms.into_iter().map(|document| document.content.expect("YAML").value).collect();
        let release = Release { name: "a-release".into(), namespace: (*namespace).into(), service: "Helm".into() };
        let ours = chart::render(*chart, &values, &release).expect("it renders");
        assert_eq!(sorted(ours), sorted(helms), "{} {set:?}", chart.name());
    }
}

fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(kind::describe);
    objects
}

const CASES: &[(Chart, &str, &[&str])] = &[
    (Chart::Base, "istio-system", &[]),
    (
        Chart::Base,
        "istio-system",
        &[
            "base.excludedCRDs={envoyfilters.networking.istio.io}",
            "global.enableReaderRBAC=true",
            "global.imagePullSecrets={a}",
        ],
    ),
    (
        Chart::Base,
        "mesh",
        &[
            "defaultRevision=canary",
            "base.validationURL=https://x/validate",
            "base.validationCABundle=eA==",
            "global.istioNamespace=mesh",
        ],
    ),
    (Chart::Base, "istio-system", &["global.resourceScope=namespace", "global.enableReaderRBAC=true"]),
    (Chart::Istiod, "istio-system", &[]),
    (
        Chart::Istiod,
        "mesh",
        &[
            "revision=canary",
            "revisionTags={default,prod}",
            "pilot.autoscaleEnabled=false",
            "pilot.replicaCount=3",
            "pilot.env.PILOT_TRACE_SAMPLING=5",
            "pilot.env.X=true",
            "envVarFrom[0].name=Y",
            "envVarFrom[0].valueFrom.fieldRef.fieldPath=metadata.name",
            "extraContainerArgs={--a,--b}",
            "global.imagePullPolicy=Always",
            "global.imagePullSecrets={a,b}",
            "global.logAsJson=true",
            "global.meshID=m",
            "global.networkPolicy.enabled=true",
            "global.proxy.tracer=zipkin",
            "global.meshNetworks.n.gateways[0].port=15443",
            "global.certSigners={a/b}",
            "global.priorityClassName=high",
            "meshConfig.enablePrometheusMerge=false",
            "meshConfig.defaultConfig.discoveryAddress=x:1",
            r"nodeSelector.kubernetes\.io/os=linux",
            "tolerations[0].operator=Exists",
            "podLabels.a=b",
            "podAnnotations.a=b",
            "jwksResolverExtraRootCA=a\nb\n",
            "pdb.maxUnavailable=1",
            "memory.targetAverageUtilization=80",
            "rbac.gatewayDeployment=true",
            "sidecarInjectorWebhook.enableNamespacesByDefault=true",
            "sidecarInjectorWebhook.templates.mine=metadata:\n  labels:\n    a: <&>\n",
            "sidecarInjectorWebhook.defaultTemplates={sidecar,mine}",
            "telemetry.enabled=false",
            "image=somewhere/pilot:x",
            "volumes[0].name=v",
            "volumeMounts[0].name=v",
        ],
    ),
    (
        Chart::Istiod,
        "istio-system",
        &[
            "istiodRemote.enabled=true",
            "istiodRemote.injectionURL=https://x/inject",
            "istiodRemote.injectionCABundle=eA==",
        ],
    ),
    (Chart::Istiod, "istio-system", &["global.resourceScope=cluster"]),
    (
        Chart::Istiod,
        "istio-system",
        &[
            "global.configValidation=false",
            "global.omitSidecarInjectorConfigMap=true",
            "configMap=false",
            "hub=h",
            "tag=1",
            "variant=distroless",
        ],
    ),
    (Chart::Gateway, "istio-system", &[]),
    (
        Chart::Gateway,
        "edge",
        &[
            "name=istio-edge",
            "revision=canary",
            "kind=DaemonSet",
            "networkGateway=n1",
            "env.A=1",
            "service.annotations.a=b",
            "annotations.c=d",
            "service.loadBalancerSourceRanges={10.0.0.0/8}",
            "service.externalTrafficPolicy=Local",
            "service.selectorLabels.x=y",
            "labels.istio=other",
            "podDisruptionBudget.minAvailable=1",
            "global.networkPolicy.enabled=true",
            "imagePullSecrets[0].name=s",
            "affinity.nodeAffinity.a=b",
            "terminationGracePeriodSeconds=5",
        ],
    ),
    (
        Chart::Gateway,
        "edge",
        &[
            "service.type=None",
            "autoscaling.enabled=false",
            "replicaCount=2",
            "serviceAccount.create=false",
            "rbac.enabled=false",
            "securityContext.runAsUser=0",
        ],
    ),
];
