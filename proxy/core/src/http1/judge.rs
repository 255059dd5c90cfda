//! One request, one verdict: every reading of its target must be allowed by both ends' policy.

use crate::cx::Cx;
use crate::link::Link;
use crate::reason::Reason;
use parsers::http1::head;
use policy_model::http::{Headers, Request};
use policy_model::snapshot::{Admission, Direction, Efforts};
use policy_model::{Denial, Permit, Verdict};

/// What is to become of a request.
pub(super) enum Judged {
    /// By the policy of this direction, where one was asked.
    Allow(Option<Direction>, Permit),
    Deny(Direction, Denial),
    /// No rule can speak of it.
    Refuse(Reason),
    /// Not even the connection is allowed any more.
    Revoke(Direction, Denial),
}

pub(super) fn judge(request: &head::Request<'_>, link: &mut Link, cx: &mut Cx<'_>) -> Judged {
    if request.upgrade == head::Upgrade::Other {
        return Judged::Refuse(Reason::UpgradeRefused);
    }
    match link.admission(cx.snapshot) {
        Admission::Allow(permit) => Judged::Allow(None, permit),
        Admission::Deny(direction, denial) => Judged::Revoke(direction, denial),
        Admission::Inspect => inspect(request, link, cx),
    }
}

fn inspect(request: &head::Request<'_>, link: &mut Link, cx: &mut Cx<'_>) -> Judged {
    if let Err(error) = cx.scratch.readings.read(request.origin, cx.limits.http.path_bytes_max) {
        return Judged::Refuse(error.into());
    }
    let policy = link.policy(cx.snapshot);
    let fields = Fields(request);
    let efforts = Efforts::of_readings(cx.scratch.readings.count());
    let mut allowed = None;
    for target in cx.scratch.readings.iter() {
        let question = Request {
            method: request.method.as_bytes(),
            target,
            host: request.host.as_bytes(),
            headers: &fields,
        };
        match policy.http(&question, &efforts) {
            (direction, Verdict::Deny(denial)) => return Judged::Deny(direction, denial),
            // The first reading is the normal form: its rule is the one to name.
            (direction, Verdict::Allow(permit)) => allowed = allowed.or(Some((direction, permit))),
        }
    }
    match allowed {
        Some((direction, permit)) => Judged::Allow(Some(direction), permit),
        None => Judged::Refuse(Reason::NotAPath),
    }
}

/// The fields that the server will see.
struct Fields<'a>(&'a head::Request<'a>);

impl Headers for Fields<'_> {
    fn each(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        let cuts = matches!(self.0.upgrade, head::Upgrade::H2c { .. });
        for field in self.0.fields().filter(|field| !(cuts && is_cut(field.name))) {
            each(field.name.as_bytes(), field.value);
        }
    }

    /// As sent: what is cut out of a list names no field that is forwarded.
    fn connection(&self, each: &mut dyn FnMut(&[u8])) {
        self.0.values("connection").chain(self.0.values("proxy-connection")).for_each(each);
    }
}

/// Rules must not match what is not forwarded. All of `connection` counts as cut, though some of it may stay:
/// a rule that asks for it then fails, which is the safe side.
fn is_cut(name: &str) -> bool {
    ["connection", "http2-settings", "upgrade"].iter().any(|cut| name.eq_ignore_ascii_case(cut))
}
