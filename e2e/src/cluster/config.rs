//! What each component is told: files from templates, and arguments, as values.

use super::plan::{Addresses, NODE_MASK_BITS};
use std::path::{Path, PathBuf};

/// All that configuration depends on.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub folder: PathBuf,
    pub node: String,
    pub cgroup: String,
    pub addresses: Addresses,
    pub runc: PathBuf,
    /// Folder of the CNI plugins.
    pub cni: PathBuf,
}

pub(super) const NAMESPACE: &str = include_str!("../../cluster/template/namespace.sh");
const AUDIT_POLICY: &str = include_str!("../../cluster/template/audit-policy.yaml");
const CONTAINERD: &str = include_str!("../../cluster/template/containerd.toml");
const CNI: &str = include_str!("../../cluster/template/cni.conflist");
const KUBELET: &str = include_str!("../../cluster/template/kubelet.yaml");
const KUBE_PROXY: &str = include_str!("../../cluster/template/kube-proxy.yaml");
const COREDNS: &str = include_str!("../../cluster/template/coredns.yaml");

/// What the kubelet wants of the kernel. It is shown files with these values, and the machine keeps its own.
const TUNABLES: &[(&str, &str)] = &[
    ("vm.overcommit_memory", "1"),
    ("vm.panic_on_oom", "0"),
    ("kernel.panic", "10"),
    ("kernel.panic_on_oops", "1"),
    ("kernel.keys.root_maxkeys", "1000000"),
    ("kernel.keys.root_maxbytes", "25000000"),
];

impl Settings {
    /// Files by their path in the cluster's folder.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![
            ("namespace.sh".to_owned(), NAMESPACE.to_owned()),
            ("audit-policy.yaml".to_owned(), AUDIT_POLICY.to_owned()),
            ("containerd.toml".to_owned(), self.filled(CONTAINERD)),
            ("cni/10-pods.conflist".to_owned(), self.filled(CNI)),
            ("kubelet.yaml".to_owned(), self.filled(KUBELET)),
            ("kube-proxy.yaml".to_owned(), self.filled(KUBE_PROXY)),
            ("coredns.yaml".to_owned(), self.filled(COREDNS)),
            ("hosts".to_owned(), format!("127.0.0.1 localhost\n{} {}\n", self.addresses.node(), self.node)),
            // No servers: there is no world outside.
            ("resolv.conf".to_owned(), String::new()),
        ];
        files.extend(TUNABLES.iter().map(|(name, value)| (format!("tunables/{name}"), format!("{value}\n"))));
        for user in ["admin", "controller-manager", "scheduler", "kubelet", "kube-proxy"] {
            files.push((format!("{user}.kubeconfig"), self.kubeconfig(user)));
        }
        files
    }

    fn filled(&self, template: &str) -> String {
        let addresses = self.addresses;
        [
            ("@FOLDER@", self.folder.display().to_string()),
            ("@NODE@", self.node.clone()),
            ("@NODE_ADDRESS@", addresses.node().to_string()),
            ("@CGROUP@", self.cgroup.clone()),
            ("@DNS@", addresses.dns().to_string()),
            ("@PODS@", addresses.pods()),
            ("@PODS_OF_NODE@", addresses.pods_of_node()),
            ("@RUNC@", self.runc.display().to_string()),
            ("@CNI@", self.cni.display().to_string()),
        ]
        .iter()
        .fold(template.to_owned(), |text, (mark, value)| text.replace(mark, value))
    }

    fn kubeconfig(&self, user: &str) -> String {
        let (server, folder) = (self.server(), self.folder.join("certificates"));
        let folder = folder.display();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: navarch\n\
             clusters:\n- name: navarch\n  cluster: {{server: \"{server}\", certificate-authority: {folder}/ca.crt}}\n\
             users:\n- name: {user}\n  user: {{client-certificate: {folder}/{user}.crt, client-key: {folder}/{user}.key}}\n\
             contexts:\n- name: navarch\n  context: {{cluster: navarch, user: {user}}}\n"
        )
    }

    pub(super) fn server(&self) -> String {
        format!("https://{}:6443", self.addresses.node())
    }

    fn certificate(&self, file: &str) -> String {
        path(&self.folder.join("certificates").join(file))
    }

    fn file(&self, file: &str) -> String {
        path(&self.folder.join(file))
    }

    pub(super) fn etcd(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.file("etcd")),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            // What is lost with the machine is of no value.
            "--unsafe-no-fsync".to_owned(),
        ]
    }

    pub(super) fn apiserver(&self) -> Vec<String> {
        let certificate = |file| self.certificate(file);
        vec![
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--advertise-address={}", self.addresses.node()),
            "--bind-address=0.0.0.0".to_owned(),
            format!("--service-cluster-ip-range={}", self.addresses.services()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--client-ca-file={}", certificate("ca.crt")),
            format!("--tls-cert-file={}", certificate("apiserver.crt")),
            format!("--tls-private-key-file={}", certificate("apiserver.key")),
            format!("--kubelet-certificate-authority={}", certificate("ca.crt")),
            format!("--kubelet-client-certificate={}", certificate("apiserver-kubelet.crt")),
            format!("--kubelet-client-key={}", certificate("apiserver-kubelet.key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--service-account-key-file={}", certificate("sa.pub")),
            format!("--service-account-signing-key-file={}", certificate("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            "--api-audiences=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--audit-policy-file={}", self.file("audit-policy.yaml")),
            format!("--audit-log-path={}", self.file(AUDIT_LOG)),
            // One file, so that a test sees every request.
            "--audit-log-maxsize=4096".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    pub(super) fn controller_manager(&self) -> Vec<String> {
        let certificate = |file| self.certificate(file);
        vec![
            format!("--kubeconfig={}", self.file("controller-manager.kubeconfig")),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            // A controller that loses its API server starts anew in a cluster of many; this one goes on, and would call
            // the node dead, and with it every endpoint, the moment that the API server is back.
            "--node-monitor-grace-period=30m".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            format!("--root-ca-file={}", certificate("ca.crt")),
            format!("--service-account-private-key-file={}", certificate("sa.key")),
            format!("--cluster-signing-cert-file={}", certificate("ca.crt")),
            format!("--cluster-signing-key-file={}", certificate("ca.key")),
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={}", self.addresses.pods()),
            format!("--node-cidr-mask-size={NODE_MASK_BITS}"),
            format!("--service-cluster-ip-range={}", self.addresses.services()),
        ]
    }

    pub(super) fn scheduler(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.file("scheduler.kubeconfig")),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
        ]
    }

    pub(super) fn containerd(&self) -> Vec<String> {
        vec![format!("--config={}", self.file("containerd.toml"))]
    }

    pub(super) fn kubelet(&self) -> Vec<String> {
        vec![
            format!("--config={}", self.file("kubelet.yaml")),
            format!("--kubeconfig={}", self.file("kubelet.kubeconfig")),
            format!("--hostname-override={}", self.node),
            format!("--node-ip={}", self.addresses.node()),
            "--root-dir=/var/lib/kubelet".to_owned(),
        ]
    }

    pub(super) fn kube_proxy(&self) -> Vec<String> {
        vec![format!("--config={}", self.file("kube-proxy.yaml"))]
    }
}

pub(super) const AUDIT_LOG: &str = "logs/audit.log";

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_mark_of_a_template_is_filled_and_files_are_the_clusters_own() {
        let settings = Settings {
            folder: "/var/lib/navarch/a".into(),
            node: "a-node".to_owned(),
            cgroup: "navarch-a".to_owned(),
            addresses: Addresses::first_free(&BTreeSet::new()).unwrap(),
            runc: "/usr/sbin/runc".into(),
            cni: "/usr/lib/cni".into(),
        };
        for (name, text) in settings.files().iter().filter(|(name, _)| name != "namespace.sh") {
            assert!(!text.contains('@'), "{name}:\n{text}");
        }
        let arguments = [settings.apiserver(), settings.kubelet(), settings.controller_manager(), settings.etcd()];
        for argument in arguments.iter().flatten().filter(|it| it.contains("file=") || it.contains("config=")) {
            assert!(argument.contains("=/var/lib/navarch/a/"), "{argument}");
        }
        assert!(settings.apiserver().contains(&"--service-cluster-ip-range=10.96.0.0/16".to_owned()));
        assert_eq!(settings.server(), "https://10.200.0.1:6443");
    }
}
