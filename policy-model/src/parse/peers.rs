//! Who an entry speaks of: endpoints, entities, address ranges.
//!
//! Closed form: an element that can't be read is nobody to an allow entry, and makes a deny entry speak of everybody.

use super::diagnostic::{Complaints, Severity, Unreadable, quoted};
use super::place::{Fields, Place, Refused, Schema, Written, nearest};
use super::scope::{Effect, Scope};
use super::selectors;
use crate::cidr::Prefix;
use crate::rule::{Entity, Peer, Peers};

const CIDR_SET: Schema = Schema {
    what: "an element of a CIDR set",
    known: &["cidr", "except"],
    refused: &[
        Refused::NotYet("cidrGroupRef", "write the group's ranges out"),
        Refused::NotYet("cidrGroupSelector", "write the groups' ranges out"),
    ],
    unknown: Severity::Error,
};

/// An entity of the format that is not enforced.
const CLUSTER_MESH: &str = "cluster-mesh";

/// The four kinds of peer lists, with the names that their direction gives them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) endpoints: &'static str,
    pub(super) cidr: &'static str,
    pub(super) cidr_set: &'static str,
    pub(super) entities: &'static str,
}

/// How an element of a peer list is read.
type Element = fn(&Place<'_>, &Scope<'_>, Effect, &mut Complaints) -> Result<Peer, Unreadable>;

/// The peers of one entry. An empty list is nobody; no list at all is everybody.
pub(super) fn read(
    names: Names,
    fields: &mut Fields<'_>,
    entry: &Place<'_>,
    scope: &Scope<'_>,
    effect: Effect,
    complaints: &mut Complaints,
) -> Result<Peers, Unreadable> {
    let kinds: [(&'static str, Element); 4] = [
        (names.endpoints, endpoints),
        (names.cidr, cidr),
        (names.cidr_set, cidr_set),
        (names.entities, entity),
    ];
    let mut peers = Vec::new();
    let mut written = Vec::new();
    let mut unreadable = false;
    for (name, element) in kinds {
        let place = match fields.take(name) {
            Written::Absent => continue,
            Written::Unreadable => {
                unreadable = true;
                continue;
            }
            Written::Value(place) => place,
        };
        let Ok(items) = place.list(complaints) else {
            unreadable = true;
            continue;
        };
        written.push((name, items.len()));
        for item in items {
            match element(&item, scope, effect, complaints) {
                Ok(peer) => peers.push(peer),
                // An allow entry loses this peer alone: the other peers are granted as written.
                Err(Unreadable) => unreadable |= effect == Effect::Deny,
            }
        }
    }
    // An empty list is no second kind, and yet it selects nobody.
    let nobody = written.iter().find(|(_, len)| *len == 0).map(|(name, _)| *name);
    let filled: Vec<&str> = written.iter().filter(|(_, len)| *len > 0).map(|(name, _)| *name).collect();
    if let [first, second, ..] = filled[..] {
        let error = entry.error(
            complaints,
            format!("`{first}` and `{second}` in one entry: it is not said whether either or both must hold"),
            "write one entry for each",
        );
        // Whichever was meant, a deny entry that covers all of them covers it.
        if effect == Effect::Allow {
            return Err(error);
        }
    }
    match nobody {
        _ if unreadable => Err(Unreadable),
        Some(empty) if filled.len() == 1 => {
            let message = format!("`{empty}` is empty, so the entry covers nobody");
            entry.warn(complaints, message, format!("leave `{empty}` out"));
            Ok(Peers::Of(Vec::new()))
        }
        None if written.is_empty() => Ok(Peers::Any),
        Some(_) | None => Ok(Peers::Of(peers)),
    }
}

fn endpoints(
    place: &Place<'_>,
    scope: &Scope<'_>,
    _: Effect,
    complaints: &mut Complaints,
) -> Result<Peer, Unreadable> {
    let mut selector = selectors::read(place, complaints)?;
    match scope.namespace {
        Some(namespace) => selectors::confine_peer(&mut selector, namespace),
        None if scope.subject_is_init => {}
        None => selectors::confine_to_pods(&mut selector),
    }
    Ok(Peer::Endpoints(selector))
}

fn entity(
    place: &Place<'_>,
    _: &Scope<'_>,
    _: Effect,
    complaints: &mut Complaints,
) -> Result<Peer, Unreadable> {
    let text = place.string(complaints)?;
    if let Some(entity) = Entity::ALL.into_iter().find(|entity| entity.as_str() == text) {
        return Ok(Peer::Entity(entity));
    }
    if text == CLUSTER_MESH {
        let message = format!("not supported yet: entity `{CLUSTER_MESH}`");
        return Err(place.error(
            complaints,
            message,
            "write `cluster`; other clusters of a mesh are not known",
        ));
    }
    let names = || Entity::ALL.into_iter().map(Entity::as_str);
    let fix = match nearest(text, names()) {
        Some(name) => format!("did you mean `{name}`"),
        None => format!("one of {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err(place.error(complaints, format!("unsupported entity {}", quoted(text)), fix))
}

fn cidr(
    place: &Place<'_>,
    _: &Scope<'_>,
    _: Effect,
    complaints: &mut Complaints,
) -> Result<Peer, Unreadable> {
    Ok(Peer::Cidr { prefix: prefix(place, complaints)?, except: Vec::new() })
}

fn cidr_set(
    place: &Place<'_>,
    _: &Scope<'_>,
    effect: Effect,
    complaints: &mut Complaints,
) -> Result<Peer, Unreadable> {
    let mut fields = place.fields(&CIDR_SET, complaints)?;
    let prefix = match fields.take("cidr") {
        Written::Absent if fields.refused.is_empty() => {
            Err(place.error(complaints, "`cidr` is missing", "write a range, such as `10.0.0.0/8`"))
        }
        Written::Absent | Written::Unreadable => Err(Unreadable),
        Written::Value(place) => long_prefix(&place, complaints),
    };
    let except = match fields.take("except") {
        Written::Absent => Ok(Vec::new()),
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => excepts(&place, prefix, complaints),
    };
    let prefix = prefix?;
    if fields.unknown || !fields.refused.is_empty() {
        return Err(Unreadable);
    }
    match (except, effect) {
        (Ok(except), _) => Ok(Peer::Cidr { prefix, except }),
        // The exceptions can't be judged: without them the deny covers all it might mean.
        (Err(Unreadable), Effect::Deny) => Ok(Peer::Cidr { prefix, except: Vec::new() }),
        (Err(Unreadable), Effect::Allow) => Err(Unreadable),
    }
}

fn excepts(
    place: &Place<'_>,
    outer: Result<Prefix, Unreadable>,
    complaints: &mut Complaints,
) -> Result<Vec<Prefix>, Unreadable> {
    let mut all = Ok(Vec::new());
    for item in place.list(complaints)? {
        let except = long_prefix(&item, complaints).and_then(|inner| match outer {
            Ok(outer) if !outer.covers(&inner) => {
                let message = format!("the exception `{inner}` does not lie inside of `{outer}`");
                Err(item.error(complaints, message, "every exception must be a part of `cidr`"))
            }
            Ok(_) | Err(Unreadable) => Ok(inner),
        });
        match (except, &mut all) {
            (Ok(inner), Ok(list)) => list.push(inner),
            (Ok(_), Err(Unreadable)) => {}
            (Err(Unreadable), all) => *all = Err(Unreadable),
        }
    }
    all
}

/// CIDR sets want the length written; a bare address is refused there.
fn long_prefix(place: &Place<'_>, complaints: &mut Complaints) -> Result<Prefix, Unreadable> {
    let prefix = prefix(place, complaints)?;
    match place.string(complaints)?.contains('/') {
        true => Ok(prefix),
        false => Err(place.error(
            complaints,
            "a range is needed, this is a bare address",
            format!("write `{prefix}`"),
        )),
    }
}

fn prefix(place: &Place<'_>, complaints: &mut Complaints) -> Result<Prefix, Unreadable> {
    let text = place.string(complaints)?;
    text.parse().map_err(|error| {
        let fix = "write a range, such as `10.0.0.0/8` or `fd00::/64`";
        place.error(complaints, format!("{} is not an address range: {error}", quoted(text)), fix)
    })
}
