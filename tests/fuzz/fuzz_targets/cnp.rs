//! The reader of policies: any text is read without a panic, and what is kept of an object reads as that object again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_model::parse::{Judged, parse};
use policy_model::rule::Policy;

fuzz_target!(|text: &str| {
    for object in parse(text).map_or_else(|_| Vec::new(), |parsed| parsed.objects) {
        let again = parse(&object.text)
            .unwrap_or_else(|errors| panic!("the kept text is no text: {errors:?}"))
            .objects;
        assert_eq!(again.len(), 1);
        assert_eq!(policy(&again[0].judged), policy(&object.judged));
        let (Judged::Accepted { diagnostics, .. } | Judged::Refused { diagnostics, .. }) = &object.judged;
        assert!(diagnostics.len() <= 101, "complaints are bounded");
    }
});

fn policy(judged: &Judged) -> &Policy {
    match judged {
        Judged::Accepted { policy, .. } => policy,
        Judged::Refused { closed, .. } => closed,
    }
}
