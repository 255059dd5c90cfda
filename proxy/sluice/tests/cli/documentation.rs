//! What `docs/policy.md` and the examples say, put to the program.

use crate::run::{Place, sluice, sluice_reading};
use std::process::Output;

const PAGE: &str = include_str!("../../../../docs/policy.md");
const NODE_FILE: &str = include_str!("../../../../examples/node/node.toml");

fn check_text(text: &str) -> Output {
    sluice_reading(text, &["policy", "check", "-"])
}

/// The examples below a marker: what follows its name, and the block.
fn examples(marker: &str) -> Vec<(&'static str, &'static str)> {
    let parts = PAGE.split("<!-- ").skip(1).filter_map(|part| part.split_once(" -->\n```yaml\n"));
    let named = parts.filter_map(|(name, rest)| {
        let name = name.strip_prefix(marker)?;
        let name = if name.is_empty() { name } else { name.strip_prefix(": ")? };
        Some((name, rest.split_once("```")?.0))
    });
    named.collect()
}

#[test]
fn examples_are_accepted() {
    let examples = examples("accepted");
    assert_eq!(examples.len(), 2);
    for (_, text) in examples {
        assert_eq!(check_text(text).status.code(), Some(0), "{text}");
    }
}

#[test]
fn examples_are_refused_for_their_field() {
    let examples = examples("refused");
    assert_eq!(examples.len(), 1);
    for (field, text) in examples {
        let output = check_text(text);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(&format!(" {field}: ")), "{output:?}");
    }
}

/// Every row of the table: the field alone makes its object refused, by its name.
#[test]
fn refusals_are_as_the_table_says() {
    let (_, table) = PAGE.split_once("<!-- refusals -->\n").unwrap();
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 30, "{rows:?}");
    for row in rows {
        let [_, field, place, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let field = field.trim_matches('`');
        let output = check_text(&policy_with(field, place));
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{row}: {told}");
        let by_name = told.lines().any(|line| {
            line.contains(&format!("{field}: "))
                && (line.contains("not supported") || line.contains(&format!("`{field}`")))
        });
        assert!(by_name, "{row}: {told}");
    }
}

/// As it stands, and with every default that it mentions written out.
#[test]
fn the_node_file_is_valid() {
    let place = Place::new();
    let is_setting = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '))
    };
    let shown = |line: &str| match line.strip_prefix("# ") {
        Some(setting) if is_setting(setting) => setting.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    let written_out: Vec<String> = NODE_FILE.lines().map(shown).collect();
    assert!(written_out.iter().any(|line| line.starts_with("[limits]")), "{written_out:?}");
    for text in [NODE_FILE, &written_out.join("\n")] {
        place.write("node.toml", text);
        let output = sluice(&["config", "check", &place.path("node.toml")]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

/// An object that is fine but for this field in this place.
fn policy_with(field: &str, place: &str) -> String {
    let field = format!("{field}: []");
    let at = |wanted: &str| if place == wanted { field.clone() } else { String::new() };
    let entry =
        |wanted: &str| if place == wanted { format!("{wanted}: [{{{field}}}]") } else { String::new() };
    let subject = if field.starts_with("nodeSelector") { "nodeSelector: {}" } else { "endpointSelector: {}" };
    let rule = if field.starts_with("nodeSelector") { String::new() } else { at("rule") };
    let lines = [
        "apiVersion: cilium.io/v2".to_owned(),
        "kind: CiliumNetworkPolicy".to_owned(),
        "metadata: {name: a, namespace: b}".to_owned(),
        at("object"),
        "spec:".to_owned(),
        format!("  {subject}"),
        format!("  {rule}"),
        format!("  {}", entry("egress")),
        format!("  {}", entry("egressDeny")),
        match place {
            "ingressDeny" => format!("  {}", entry("ingressDeny")),
            "toPorts of a deny entry" => format!("  ingressDeny: [{{toPorts: [{{{field}}}]}}]"),
            _ => String::new(),
        },
        "  ingress:".to_owned(),
        format!(
            "  - {{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], {}}}], {}}}",
            port_rule(&field, place),
            at("ingress")
        ),
        if place == "CIDR set" { format!("  - {{fromCIDRSet: [{{{field}}}]}}") } else { String::new() },
    ];
    lines.join("\n")
}

fn port_rule(field: &str, place: &str) -> String {
    match place {
        "http" => format!("rules: {{http: [{{{field}}}]}}"),
        "rules" => format!("rules: {{{field}}}"),
        "toPorts" => field.to_owned(),
        _ => "rules: {http: [{method: GET}]}".to_owned(),
    }
}
