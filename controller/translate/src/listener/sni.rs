//! Server names of filter chain matches, as far as Envoy accepts them.

use crds::Reason;
use model::{Hostname, Service};

/// The server names among `hosts`, and for each that Envoy would refuse its place and the reason. `None`: the list is
/// empty or contains `*`, so that any name, or none, matches.
pub(super) fn server_names(hosts: &[String]) -> (Option<Vec<String>>, Vec<(usize, Reason)>) {
    if hosts.is_empty() || hosts.iter().any(|host| host == "*") {
        return (None, vec![]);
    }
    let (mut names, mut wrong) = (vec![], vec![]);
    for (at, host) in hosts.iter().enumerate() {
        // Envoy compares with the lower-case SNI.
        let name = host.to_ascii_lowercase();
        let rest = name.strip_prefix("*.").unwrap_or(&name);
        match rest.is_empty() || rest.contains('*') {
            true => wrong.push((at, Reason::Invalid(format!("{host:?} is no server name (a.b or *.b)")))),
            false => names.push(name),
        }
    }
    names.sort();
    names.dedup();
    (Some(names), wrong)
}

/// The names by which a client in `namespace` may ask for a service that has no address of its own: its host, and for
/// each alias all that resolvers accept (`GenerateAltVirtualHosts` in Istio).
pub(super) fn of_service(service: &Service, namespace: &str) -> Vec<String> {
    let mut names = vec![service.key.host.to_string()];
    for alias in &service.aliases {
        names.push(alias.to_string());
        names.extend(short_forms(alias, namespace));
    }
    names
}

fn short_forms(host: &Hostname, namespace: &str) -> Vec<String> {
    let Some((name, own)) = host.kube_name() else { return vec![] };
    let mut forms = vec![format!("{name}.{own}"), format!("{name}.{own}.svc")];
    if own == namespace {
        forms.push(name.to_owned());
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_envoy_would_refuse_are_left_out_alone() {
        let hosts = |list: &[&str]| list.iter().map(|it| it.to_string()).collect::<Vec<_>>();
        for (list, expected, wrong) in [
            (&["a.b", "*.c", "A.b"][..], Some(&["*.c", "a.b"][..]), &[][..]),
            (&["a.b", "*b", "a.*", ""], Some(&["a.b"]), &[1, 2, 3]),
            (&["*."], Some(&[]), &[0]),
            (&["a.b", "*"], None, &[]),
            (&[], None, &[]),
        ] {
            let (names, problems) = server_names(&hosts(list));
            assert_eq!(names, expected.map(hosts), "{list:?}");
            assert_eq!(problems.into_iter().map(|(at, _)| at).collect::<Vec<_>>(), wrong, "{list:?}");
        }
    }

    #[test]
    fn short_names_work_in_the_own_namespace() {
        let host = Hostname::kube_service("a", "n");
        assert_eq!(short_forms(&host, "n"), ["a.n", "a.n.svc", "a"]);
        assert_eq!(short_forms(&host, "m"), ["a.n", "a.n.svc"]);
        assert_eq!(short_forms(&Hostname::new("a.com"), "n"), Vec::<String>::new());
    }
}
