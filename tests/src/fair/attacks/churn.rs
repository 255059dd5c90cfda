//! Another tenant's policies, written again and again, with many rules each: the victim is answered, and its server's owner's own
//! change comes into force.

use crate::fair::arena::{Arena, HTTP, SHORT};
use crate::fair::{Assault, Attack};
use crate::pods::Family;
use anyhow::Result;
use std::fmt::Write as _;
use std::time::Duration;

pub(super) const ATTACK: Attack = Attack {
    name: "policies of another tenant",
    bound: "the newest whole set at once; compiling beside it",
    port: HTTP,
    head_start: |_scale| 5,
    work,
    check,
};

const RULES: usize = 200;
const EVERY: Duration = Duration::from_millis(20);

fn work(assault: &Assault) -> Result<()> {
    let rules = if assault.scale.actions_max == SHORT.actions_max { RULES / 10 } else { RULES };
    let mut number = 0_usize;
    while assault.goes_on() {
        number += 1;
        let mut text = String::from(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: other, namespace: default}\n\
             spec:\n  endpointSelector: {matchLabels: {app: attacker}}\n  ingress:\n  - fromEndpoints: [{}]\n    toPorts:\n    \
             - ports: [{port: \"80\", protocol: TCP}]\n      rules:\n        http:\n",
        );
        for rule in 0..rules {
            writeln!(text, "        - {{path: \"/.*{rule}-{number}/[0-9]+\"}}")?;
        }
        let aside = assault.policies.with_extension("aside");
        std::fs::write(&aside, text)?;
        std::fs::rename(aside, assault.policies.join("other.yaml"))?;
        std::thread::sleep(EVERY);
    }
    // A round past Sluice and the end of one through it leave nothing behind.
    std::fs::remove_file(assault.policies.join("other.yaml"))?;
    Ok(())
}

/// A change of somebody else comes into force meanwhile.
fn check(arena: &Arena, family: Family) -> Result<()> {
    let name = format!("mine-{}", family.name().to_ascii_lowercase());
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{endpointSelector: {{matchLabels: {{app: victim}}}}, egress: [{{toEndpoints: [{{}}]}}]}}\n"
    );
    let _revision = arena.daemon.apply(&format!("{name}.yaml"), &text)?;
    arena.daemon.wait_until("the policy is listed", |daemon| {
        daemon.sluice(&["policy", "get", "-o", "json"]).is_ok_and(|policies| policies.contains(&name))
    })
}
