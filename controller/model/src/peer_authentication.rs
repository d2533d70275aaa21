//! PeerAuthentication: whether a workload's port takes mutual TLS, plain text, or both (`istio.md` 1.11).

use crate::service::Age;
use crate::{Namespace, label};
use crds::security::{MutualTlsMode, PeerAuthentication};
use std::collections::BTreeMap;

/// What a port accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Mode {
    /// Plain text alone; TLS of the application passes through.
    Disable,
    #[default]
    Permissive,
    Strict,
}

impl Mode {
    /// `None`: what the level above says.
    fn parse(mode: MutualTlsMode) -> Option<Self> {
        match mode {
            MutualTlsMode::Unset => None,
            MutualTlsMode::Disable => Some(Self::Disable),
            MutualTlsMode::Permissive => Some(Self::Permissive),
            MutualTlsMode::Strict => Some(Self::Strict),
        }
    }
}

/// What is in force in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Policies {
    /// Of workloads that nothing selects.
    namespace: Mode,
    /// Those with a selector, oldest first.
    workloads: Vec<WorkloadPolicy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct WorkloadPolicy {
    selector: BTreeMap<String, String>,
    mode: Option<Mode>,
    ports: BTreeMap<u16, Option<Mode>>,
}

/// What is in force for one workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EffectiveModes {
    /// Of every port that `ports` does not name, whether a Service declares it or not.
    pub mode: Mode,
    /// Ports that the workload listens on.
    pub ports: BTreeMap<u16, Mode>,
}

impl EffectiveModes {
    pub fn of_port(&self, port: u16) -> Mode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }
}

impl Policies {
    /// Of the root namespace and of `own`, each with its age, in any order. In the root namespace those without a
    /// selector are the mesh's, and those with one select its own workloads. The oldest of a level counts alone.
    pub fn new<'a>(
        root: &Namespace,
        own: &Namespace,
        policies: impl Iterator<Item = (&'a Namespace, Age, &'a PeerAuthentication)>,
    ) -> Self {
        let mut sorted: Vec<_> = policies.collect();
        sorted.sort_by(|a, b| a.1.cmp(&b.1));
        let selector = |it: &PeerAuthentication| it.selector.as_ref().map(|it| it.match_labels.clone());
        let selects_all = |it: &PeerAuthentication| selector(it).is_none_or(|it| it.is_empty());
        let oldest = |namespace: &Namespace| {
            let found = sorted.iter().find(|(of, _, it)| *of == namespace && selects_all(it));
            found.and_then(|(.., it)| Mode::parse(it.mtls.mode))
        };
        let namespace = oldest(own).or_else(|| oldest(root)).unwrap_or_default();
        let of_workloads = sorted.iter().filter(|(of, _, it)| *of == own && !selects_all(it));
        let workload = |it: &PeerAuthentication| WorkloadPolicy {
            selector: selector(it).unwrap_or_default(),
            mode: Mode::parse(it.mtls.mode),
            // What is no port was refused by validation.
            ports: it
                .port_level_mtls
                .iter()
                .filter_map(|(k, v)| Some((k.parse().ok()?, Mode::parse(v.mode))))
                .collect(),
        };
        Self { namespace, workloads: of_workloads.map(|(.., it)| workload(it)).collect() }
    }

    pub fn effective(&self, labels: &BTreeMap<String, String>) -> EffectiveModes {
        let Some(own) = self.select(labels) else {
            return EffectiveModes { mode: self.namespace, ports: BTreeMap::new() };
        };
        let mode = own.mode.unwrap_or(self.namespace);
        let ports = own.ports.iter().map(|(port, of_port)| (*port, of_port.unwrap_or(mode)));
        EffectiveModes { mode, ports: ports.collect() }
    }

    /// [`Self::effective`] of one port, for endpoints: there are many, and few need more.
    pub fn mode(&self, labels: &BTreeMap<String, String>, port: u16) -> Mode {
        let own = self.select(labels);
        let of_port = own.and_then(|it| it.ports.get(&port).copied().flatten());
        of_port.or_else(|| own?.mode).unwrap_or(self.namespace)
    }

    fn select(&self, labels: &BTreeMap<String, String>) -> Option<&WorkloadPolicy> {
        self.workloads.iter().find(|it| label::selects(&it.selector, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::networking::MatchLabels;
    use crds::security::MutualTls;

    fn policy(app: &str, mode: MutualTlsMode, ports: &[(&str, MutualTlsMode)]) -> PeerAuthentication {
        let selector = (!app.is_empty()).then(|| MatchLabels { match_labels: labels(app) });
        let ports = ports.iter().map(|(port, mode)| ((*port).to_owned(), MutualTls { mode: *mode }));
        PeerAuthentication { selector, mtls: MutualTls { mode }, port_level_mtls: ports.collect() }
    }

    fn labels(app: &str) -> BTreeMap<String, String> {
        [("app".to_owned(), app.to_owned())].into()
    }

    fn policies(list: &[(&str, PeerAuthentication)]) -> Policies {
        let list: Vec<(Namespace, Age, &PeerAuthentication)> = list
            .iter()
            .enumerate()
            .map(|(at, (namespace, it))| {
                let created = format!("2026-01-{at:02}").as_str().into();
                ((*namespace).into(), Age { created, name: "p".into(), namespace: (*namespace).into() }, it)
            })
            .collect();
        // The order in which they come decides nothing.
        let mut list: Vec<_> = list.iter().map(|(namespace, age, it)| (namespace, age.clone(), *it)).collect();
        list.reverse();
        Policies::new(&"root".into(), &"n".into(), list.into_iter())
    }

    #[test]
    fn the_nearest_level_that_says_something_counts() {
        use MutualTlsMode::{Disable, Permissive, Strict, Unset};
        assert_eq!(policies(&[]).effective(&labels("a")), EffectiveModes::default());
        let root = ("root", policy("", Strict, &[]));
        let own = ("n", policy("", Permissive, &[]));
        let inherits = ("n", policy("", Unset, &[]));
        let workload = ("n", policy("a", Disable, &[]));
        let ports = ("n", policy("a", Unset, &[("80", Disable), ("81", Unset)]));
        for (list, mode, of_80, of_81) in [
            (vec![root.clone()], Mode::Strict, Mode::Strict, Mode::Strict),
            (vec![root.clone(), own.clone()], Mode::Permissive, Mode::Permissive, Mode::Permissive),
            (vec![root.clone(), inherits], Mode::Strict, Mode::Strict, Mode::Strict),
            (vec![root.clone(), own, workload], Mode::Disable, Mode::Disable, Mode::Disable),
            (vec![root, ports], Mode::Strict, Mode::Disable, Mode::Strict),
        ] {
            let policies = policies(&list);
            let found = policies.effective(&labels("a"));
            assert_eq!((found.mode, found.of_port(80), found.of_port(81)), (mode, of_80, of_81), "{list:?}");
            for port in [80, 81, 82] {
                assert_eq!(policies.mode(&labels("a"), port), found.of_port(port), "{list:?}");
            }
        }
    }

    #[test]
    fn the_oldest_of_a_level_counts_alone_and_others_workloads_are_none_of_its_business() {
        use MutualTlsMode::{Disable, Strict, Unset};
        let list = [
            ("n", policy("", Strict, &[])),
            ("n", policy("", Disable, &[])),
            ("n", policy("a", Unset, &[])),
            ("n", policy("a", Disable, &[])),
            // Those of other namespaces are not asked; the root's selectors are for its own workloads.
            ("root", policy("b", Disable, &[])),
        ];
        let policies = policies(&list);
        assert_eq!(policies.effective(&labels("a")).mode, Mode::Strict);
        assert_eq!(policies.effective(&labels("b")).mode, Mode::Strict);
    }
}
