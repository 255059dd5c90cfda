//! What a new revision costs: everything anew, and with the previous snapshot at hand.

use bench_suite::policies::node_of;
use criterion::{Criterion, criterion_group, criterion_main};
use policy_model::identity::Numbers;
use policy_model::resolve;
use std::time::Duration;

fn snapshots(c: &mut Criterion) {
    let mut group = c.benchmark_group("resolve");
    for (endpoints, policies) in [(100, 100), (1_000, 1_000)] {
        let inputs = node_of(endpoints, policies);
        let mut numbers = Numbers::default();
        let (snapshot, diagnostics) = resolve(None, &inputs, &mut numbers, 1);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let _group = group.bench_function(format!("{endpoints} endpoints, {policies} policies"), |b| {
            b.iter_with_large_drop(|| resolve(None, &inputs, &mut numbers, 2));
        });
        let mut changed = inputs.clone();
        let _removed = changed.policies.pop();
        let _group =
            group.bench_function(format!("{endpoints} endpoints, {policies} policies, one fewer"), |b| {
                b.iter_with_large_drop(|| resolve(Some(&snapshot), &changed, &mut numbers, 2));
            });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(20)
}

criterion_group! { name = benches; config = quick(); targets = snapshots }
criterion_main!(benches);
