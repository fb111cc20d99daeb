//! Which part of a policy is about an image: scopes, from the narrowest to the widest
//! (containers-policy.json(5), "docker:"). Pure.
//!
//! ```text
//! r.io:5000/a/b:1      the reference itself, by tag or by digest
//! r.io:5000/a/b        the repository
//! r.io:5000/a          each namespace that it is in
//! r.io:5000            the registry
//! *.io                 registries below a domain; the port does not matter
//! (empty)              all registries
//! ```

use super::error::InvalidPolicy;
use crate::reference::Reference;

/// The scopes that an image is in, the narrowest first.
pub(super) fn candidates(image: &Reference) -> Vec<String> {
    let name = format!("{}/{}", image.registry(), image.repository());
    let digest = image.digest().map(|digest| format!("{name}@{digest}"));
    let tag = image.tag().map(|tag| format!("{name}:{tag}"));
    // Only a slash parts namespaces, so that `r.io/team` says nothing about `r.io/teammate`.
    let namespaces = std::iter::successors(Some(name.as_str()), |name| Some(name.rsplit_once('/')?.0));
    let exact = digest.into_iter().chain(tag);
    let scopes = exact.chain(namespaces.map(str::to_owned)).chain(wildcards(image.registry()));
    scopes.chain([String::new()]).collect()
}

fn wildcards(registry: &str) -> impl Iterator<Item = String> {
    let host = if registry.starts_with('[') { "" } else { registry.split(':').next().unwrap_or_default() };
    let parents = std::iter::successors(host.split_once('.'), |(_, rest)| rest.split_once('.'));
    parents.map(|(_, parent)| format!("*.{parent}"))
}

/// That a scope which somebody types can ever apply; `default` and the empty one are none of these.
pub(super) fn check(scope: &str) -> Result<(), InvalidPolicy> {
    let refuse = |why| Err(InvalidPolicy::Scope { scope: scope.chars().take(300).collect(), why });
    if let Some(domain) = scope.strip_prefix("*.") {
        let host = format!("{domain}/x").parse::<Reference>();
        return match host {
            Ok(host) if !domain.contains([':', '/']) && host.registry() == domain => Ok(()),
            _ if domain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !domain.is_empty() => Ok(()),
            _ => refuse("after `*.` comes a domain, without a port or a path"),
        };
    }
    let first = scope.split('/').next().unwrap_or_default();
    let host = match scope.contains('/') {
        true => first,
        // A registry alone may have a port, which looks like a tag.
        false => scope,
    };
    match format!("{host}/x").parse::<Reference>() {
        Ok(read) if read.registry() == host && host == scope => Ok(()),
        Ok(read) if read.registry() == host => match scope.parse::<Reference>() {
            Ok(_) => Ok(()),
            Err(_) => refuse("it is no registry, namespace, repository or reference"),
        },
        _ => refuse("it begins with no registry; write docker.io/library/alpine, not alpine"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(image: &str) -> Vec<String> {
        candidates(&image.parse().unwrap())
    }

    #[test]
    fn the_narrowest_comes_first() {
        assert_eq!(
            of("h.example.com:5000/a/b:1"),
            [
                "h.example.com:5000/a/b:1",
                "h.example.com:5000/a/b",
                "h.example.com:5000/a",
                "h.example.com:5000",
                "*.example.com",
                "*.com",
                ""
            ]
        );
        assert_eq!(
            of("alpine")[..4],
            ["docker.io/library/alpine:latest", "docker.io/library/alpine", "docker.io/library", "docker.io"]
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        let both = of(&format!("localhost/x:1@{digest}"));
        assert_eq!(
            both,
            [
                format!("localhost/x@{digest}"),
                "localhost/x:1".into(),
                "localhost/x".into(),
                "localhost".into(),
                "".into()
            ]
        );
        assert_eq!(of("[::1]:5000/x:1"), ["[::1]:5000/x:1", "[::1]:5000/x", "[::1]:5000", ""]);
    }

    #[test]
    fn a_scope_that_could_never_apply_is_refused() {
        for good in
            ["docker.io", "localhost:5000", "ghcr.io/me", "ghcr.io/me/app:1", "*.example.com", "*.io", "localhost/a/b"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in
            ["alpine", "me/app", "", "*", "*.", "*.io/a", "*.io:5000", "https://ghcr.io", "ghcr.io/UPPER", "ghcr.io/"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
