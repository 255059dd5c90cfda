//! From what the files say to the policies in force. Pure: contents in, [`PolicySet`] out.
//!
//! ```text
//! contents ─► parse, or the last accepted content ─► objects ─► as written, last accepted, or closed form ─► set
//! ```
//!
//! INVARIANT: a file that can't be used changes nothing; an object leaves the set only when no usable file has it.
//! INVARIANT: of two objects with one name the first by path is in force, whatever the order of changes was.

use crate::bounds::{Bounds, Tenants};
use crate::compile::{Compilation, Namespace, Shop};
use crate::{Instead, PolicySet, Report};
use policy_model::parse::{Diagnostic, Judged, Object, Parsed, Severity, read};
use policy_model::rule::{ObjectKind, ObjectName, Policy};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one file holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Text(Arc<str>),
    /// It can't be read, or is not read: why.
    Unusable(Diagnostic),
}

/// Every policy file by its path. Reports follow this order, and so does precedence.
pub(crate) type Files = BTreeMap<PathBuf, Content>;

/// Texts that were in force, by key: what survives a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Accepted {
    /// The text of each object as last accepted, by [`object_key`].
    pub(crate) objects: BTreeMap<String, Arc<str>>,
    /// The content of each file as last parsed, by [`file_key`].
    pub(crate) files: BTreeMap<String, Arc<str>>,
}

#[derive(Debug)]
pub(crate) struct State {
    accepted: Accepted,
    bounds: Bounds,
    /// What was parsed last time, by path: an unchanged text is not parsed again.
    parsed: BTreeMap<PathBuf, Text>,
    shop: Shop,
    set: Arc<PolicySet>,
}

type Judgement = Result<Parsed, Vec<Diagnostic>>;

#[derive(Debug)]
struct Text {
    text: Arc<str>,
    judgement: Arc<Judgement>,
}

impl State {
    pub(crate) fn new(accepted: Accepted, bounds: Bounds) -> Self {
        Self { accepted, bounds, parsed: BTreeMap::new(), shop: Shop::default(), set: Arc::default() }
    }

    pub(crate) fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// The set that `files` make. The same `Arc` as before where nothing has changed.
    pub(crate) fn apply(&mut self, files: &Files, more: &[Report]) -> Arc<PolicySet> {
        let before = Arc::clone(&self.set);
        let mut shop = std::mem::take(&mut self.shop);
        shop.begin();
        let mut merge = Merge::new(&self.accepted, &before, &mut shop, self.bounds);
        let mut parsed = BTreeMap::new();
        for (path, content) in files {
            match content {
                Content::Unusable(diagnostic) => merge.unusable(path, vec![diagnostic.clone()]),
                Content::Text(text) => {
                    let judgement = self.judge(path, text);
                    merge.file(path, text, &judgement);
                    let _replaced = parsed.insert(path.clone(), Text { text: Arc::clone(text), judgement });
                }
            }
        }
        merge.settle();
        self.parsed = parsed;
        merge.reports.extend_from_slice(more);
        let policies: Vec<Arc<Policy>> = merge.policies.into_values().collect();
        let reports = merge.reports;
        self.accepted = merge.keep;
        shop.end();
        self.shop = shop;
        if self.set.version == 0 || self.set.policies != policies || self.set.reports != reports {
            self.set = Arc::new(PolicySet { version: self.set.version.saturating_add(1), policies, reports });
        }
        Arc::clone(&self.set)
    }

    fn judge(&self, path: &Path, text: &Arc<str>) -> Arc<Judgement> {
        match self.parsed.get(path).filter(|before| before.text == *text) {
            Some(before) => Arc::clone(&before.judgement),
            None => Arc::new(read(text)),
        }
    }

    /// What compiling a policy came to, for the next set.
    pub(crate) fn learn(&mut self, policy: Policy, judged: Judged) {
        self.shop.learn(policy, judged);
    }

    /// What the last set waits for.
    pub(crate) fn wanted(&self) -> &BTreeMap<Namespace, Vec<Policy>> {
        self.shop.wanted()
    }
}

/// The set while it is being made.
struct Merge<'a> {
    accepted: &'a Accepted,
    shop: &'a mut Shop,
    before: BTreeMap<&'a ObjectName, &'a Arc<Policy>>,
    policies: BTreeMap<ObjectName, Arc<Policy>>,
    /// Which file an object is taken from.
    taken_from: BTreeMap<ObjectName, PathBuf>,
    /// Objects in the order of the files, before they are judged in that of [`Seniority`].
    found: Vec<Found>,
    tenants: Tenants,
    /// The place of the object that is being judged.
    place: usize,
    /// By the place of what they speak of.
    placed: Vec<(usize, Report)>,
    reports: Vec<Report>,
    keep: Accepted,
}

impl<'a> Merge<'a> {
    fn new(accepted: &'a Accepted, before: &'a PolicySet, shop: &'a mut Shop, bounds: Bounds) -> Self {
        Self {
            accepted,
            shop,
            before: before.policies.iter().map(|policy| (&policy.name, policy)).collect(),
            policies: BTreeMap::new(),
            taken_from: BTreeMap::new(),
            found: Vec::new(),
            tenants: Tenants::new(bounds),
            place: 0,
            placed: Vec::new(),
            reports: Vec::new(),
            keep: Accepted::default(),
        }
    }

    fn file(&mut self, path: &Path, text: &Arc<str>, judgement: &Arc<Judgement>) {
        match &**judgement {
            Err(diagnostics) => self.unusable(path, diagnostics.clone()),
            Ok(_) => {
                let _none = self.keep.files.insert(file_key(path), Arc::clone(text));
                self.find(path, judgement, Freshness::Current);
            }
        }
    }

    /// A file that can't be read or does not parse: its last accepted content stands in.
    fn unusable(&mut self, path: &Path, diagnostics: Vec<Diagnostic>) {
        let last = self.accepted.files.get(&file_key(path));
        let parsed = last.and_then(|text| Some((text, read(text).ok()?)));
        let instead = if parsed.is_some() { Instead::LastAccepted } else { Instead::Nothing };
        let report = Report { file: path.to_owned(), object: None, instead, diagnostics };
        self.placed.push((self.found.len(), report));
        if let Some((text, parsed)) = parsed {
            let _none = self.keep.files.insert(file_key(path), Arc::clone(text));
            self.find(path, &Arc::new(Ok(parsed)), Freshness::LastAccepted);
        }
    }

    /// The objects of a file, but for those of a name that an earlier file has.
    fn find(&mut self, path: &Path, judgement: &Arc<Judgement>, freshness: Freshness) {
        let Ok(parsed) = &**judgement else { return };
        for (index, object) in parsed.objects.iter().enumerate() {
            match self.taken_from.entry(object.name.clone()) {
                Entry::Occupied(first) => {
                    let diagnostic = conflict(first.get(), path);
                    self.place = self.found.len();
                    self.report(path, object, Instead::Nothing, vec![diagnostic]);
                }
                Entry::Vacant(free) => {
                    let path = free.insert(path.to_owned()).clone();
                    let last = self.accepted.objects.get(&object_key(&object.name));
                    let seniority = match last {
                        Some(last) if **last == *object.text || freshness == Freshness::LastAccepted => {
                            Seniority::Accepted
                        }
                        Some(_) => Seniority::Changed,
                        None => Seniority::New,
                    };
                    let judgement = Arc::clone(judgement);
                    self.found.push(Found { path, judgement, index, freshness, seniority });
                }
            }
        }
    }

    /// Judges what was found, and puts the reports into the order of the files.
    fn settle(&mut self) {
        let found = std::mem::take(&mut self.found);
        let mut order: Vec<(usize, &Found)> = found.iter().enumerate().collect();
        order.sort_by_key(|(place, found)| (found.seniority, *place));
        for (place, found) in order {
            if let Ok(parsed) = &*found.judgement
                && let Some(object) = parsed.objects.get(found.index)
            {
                // Behind what was said of the file it is in.
                self.place = place;
                self.object(&found.path, object, found.freshness);
            }
        }
        self.placed.sort_by_key(|(place, _)| *place);
        self.reports = std::mem::take(&mut self.placed).into_iter().map(|(_, report)| report).collect();
    }

    /// The policy compiled, or why it is not to be in force as written.
    fn judge(&mut self, policy: &Policy) -> Result<Option<Arc<Judged>>, Diagnostic> {
        let namespace = &policy.name.namespace;
        let room = self.tenants.room(namespace)?;
        match self.shop.judge(policy, room) {
            Compilation::Compiling => Ok(None),
            Compilation::Judged(judged) => Ok(Some(judged)),
            Compilation::TooBig(bytes) => Err(self.tenants.too_big(namespace, bytes)),
        }
    }

    fn object(&mut self, path: &Path, object: &Object, freshness: Freshness) {
        let judged = match &object.judged {
            Judged::Accepted { policy, .. } => self.judge(policy),
            Judged::Refused { .. } => Ok(None),
        };
        match &object.judged {
            Judged::Accepted { policy, diagnostics } => match judged.as_ref().map(Option::as_deref) {
                Err(beyond) => self.refused(path, object, &policy.closed(), std::slice::from_ref(beyond)),
                Ok(Some(Judged::Accepted { policy, .. })) => {
                    // Warnings speak of lines, and those of an older content are nobody's to correct.
                    if !diagnostics.is_empty() && freshness == Freshness::Current {
                        self.report(path, object, Instead::AsWritten, diagnostics.clone());
                    }
                    self.in_force(policy.clone(), Some(object.text.as_str().into()));
                }
                Ok(Some(Judged::Refused { closed, diagnostics: more })) => {
                    self.refused(path, object, closed, &[diagnostics.as_slice(), more].concat());
                }
                Ok(None) => self.refused(path, object, &policy.closed(), &[compiling()]),
            },
            Judged::Refused { closed, diagnostics } => self.refused(path, object, closed, diagnostics),
        }
    }

    /// What is in force instead of an object that is not, or not yet, as written.
    fn refused(&mut self, path: &Path, object: &Object, closed: &Policy, diagnostics: &[Diagnostic]) {
        let last = self.accepted.objects.get(&object_key(&object.name)).map(Arc::clone);
        let policy = last.as_ref().and_then(|text| accepted_policy(text, &object.name));
        let judged = policy.and_then(|policy| self.judge(&policy).ok());
        let stand_in = match judged.as_ref().and_then(Option::as_deref) {
            Some(Judged::Accepted { policy, .. }) => Some(policy.clone()),
            Some(Judged::Refused { .. }) | None => None,
        };
        let instead = if stand_in.is_some() { Instead::LastAccepted } else { Instead::ClosedForm };
        self.report(path, object, instead, diagnostics.to_vec());
        // It was accepted, and is to be compiled again first: that is no reason to forget it.
        let keep = stand_in.is_some() || matches!(judged, Some(None));
        self.in_force(stand_in.unwrap_or_else(|| closed.clone()), last.filter(|_| keep));
    }

    fn report(&mut self, path: &Path, object: &Object, instead: Instead, diagnostics: Vec<Diagnostic>) {
        let report =
            Report { file: path.to_owned(), object: Some(object.name.clone()), instead, diagnostics };
        self.placed.push((self.place, report));
    }

    /// Puts a policy in force; an unchanged one stays the same `Arc`, so that nothing is resolved again for it.
    fn in_force(&mut self, policy: Policy, accepted: Option<Arc<str>>) {
        if let Some(text) = accepted {
            let _none = self.keep.objects.insert(object_key(&policy.name), text);
            self.tenants.hold(&policy.name.namespace, policy.automata.bytes());
        }
        let shared = match self.before.get(&policy.name) {
            Some(before) if ***before == policy => Arc::clone(before),
            Some(_) | None => Arc::new(policy),
        };
        let _none = self.policies.insert(shared.name.clone(), shared);
    }
}

/// An object in its file.
struct Found {
    path: PathBuf,
    judgement: Arc<Judgement>,
    index: usize,
    freshness: Freshness,
    seniority: Seniority,
}

/// Whose turn it is to be judged, and so who has a place where a namespace is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seniority {
    /// Accepted as it is written.
    Accepted,
    /// Accepted with another text.
    Changed,
    New,
}

#[derive(Clone, Copy, PartialEq)]
enum Freshness {
    Current,
    LastAccepted,
}

/// The policy that an accepted text gives, if it still gives this one.
fn accepted_policy(text: &str, name: &ObjectName) -> Option<Policy> {
    let objects = read(text).ok()?.objects;
    objects.into_iter().find(|object| object.name == *name).and_then(|object| match object.judged {
        Judged::Accepted { policy, .. } => Some(policy),
        Judged::Refused { .. } => None,
    })
}

/// Not an error: nothing is to be done about it.
fn compiling() -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        line: 0,
        field: String::new(),
        message: "its HTTP patterns are still being compiled".to_owned(),
        fix: "wait: it is brought into force when that is done".to_owned(),
    }
}

fn conflict(first: &Path, second: &Path) -> Diagnostic {
    let message = if first == second {
        "the file has this object twice; the first one is in force".to_owned()
    } else {
        format!("`{}` has an object of this name too, and comes first", first.display())
    };
    Diagnostic {
        severity: Severity::Error,
        line: 0,
        field: "metadata.name".to_owned(),
        message,
        fix: "remove one of them or give it another name".to_owned(),
    }
}

/// Files that were refused without anything to stand in for them.
pub(crate) fn without_stand_in(set: &PolicySet) -> Option<&Report> {
    set.reports.iter().find(|report| report.object.is_none() && report.instead == Instead::Nothing)
}

pub(crate) fn object_key(name: &ObjectName) -> String {
    let kind = match name.kind {
        ObjectKind::CiliumClusterwideNetworkPolicy => "ccnp",
        ObjectKind::CiliumNetworkPolicy => "cnp",
    };
    let namespace = name.namespace.as_deref().unwrap_or_default();
    key(&format!("{kind}/{namespace}/{}", name.name))
}

pub(crate) fn file_key(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    key_of_bytes(path.as_os_str().as_bytes())
}

fn key(text: &str) -> String {
    key_of_bytes(text.as_bytes())
}

/// Longer keys are cut and told apart by a hash: a file name holds 255 bytes.
const KEY_BYTES_MAX: usize = 200;
const CUT_BYTES: usize = 160;

/// A file name without `/` and without a leading dot, different for different bytes.
fn key_of_bytes(bytes: &[u8]) -> String {
    let mut key = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        match char::from(*byte) {
            c if c.is_ascii_alphanumeric() || c == '-' || c == '_' || (c == '.' && index != 0) => key.push(c),
            _ => key.push_str(&format!("%{byte:02x}")),
        }
    }
    if key.len() > KEY_BYTES_MAX {
        key.truncate(CUT_BYTES);
        key.push_str(&format!("~{:016x}", checksum(bytes)));
    }
    key
}

/// FNV-1a: tells texts apart and notices torn ones; it holds against accidents, not against malice.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
