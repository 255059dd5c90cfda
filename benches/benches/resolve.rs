//! What a new revision costs: everything from nothing, and by what differs from the one before.

use bench_suite::policies::{cluster, node_of, one_more_peer, with_one_changed};
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use policy_model::identity::Numbers;
use policy_model::resolve::Resolver;
use policy_model::{Inputs, resolve};
use std::time::Duration;

fn snapshots(c: &mut Criterion) {
    let mut group = c.benchmark_group("resolve");
    for (endpoints, policies) in [(100, 100), (1_000, 1_000)] {
        let inputs = node_of(endpoints, policies);
        let mut changed = inputs.clone();
        let _removed = changed.policies.pop();
        let name = format!("{endpoints} endpoints, {policies} policies");
        from_nothing(&mut group, &name, &inputs);
        back_and_forth(&mut group, &format!("{name}, one fewer"), &inputs, &changed);
    }
    let inputs = cluster(10_000, 50, 20_000);
    let name = "10,000 policies, 50 endpoints, 20,000 identities";
    from_nothing(&mut group, name, &inputs);
    back_and_forth(&mut group, &format!("{name}, one policy changed"), &inputs, &with_one_changed(&inputs));
    back_and_forth(&mut group, &format!("{name}, one identity more"), &inputs, &one_more_peer(&inputs));
    group.finish();
}

fn from_nothing(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, inputs: &Inputs) {
    let mut numbers = Numbers::default();
    let (_, diagnostics) = resolve(inputs, &mut numbers, 1);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let _group =
        group.bench_function(name, |b| b.iter_with_large_drop(|| resolve(inputs, &mut numbers.clone(), 2)));
}

/// Each time from the one to the other.
fn back_and_forth(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, one: &Inputs, other: &Inputs) {
    let (mut resolver, mut numbers) = (Resolver::default(), Numbers::default());
    let mut snapshot = resolver.resolve(one, &mut numbers, 1);
    let mut at_one = true;
    let _group = group.bench_function(name, |b| {
        b.iter_batched(
            || {
                at_one = !at_one;
                if at_one { one } else { other }
            },
            |inputs| core::mem::replace(&mut snapshot, resolver.resolve(inputs, &mut numbers, 2)),
            BatchSize::PerIteration,
        );
    });
}

fn quick() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(20)
}

criterion_group! { name = benches; config = quick(); targets = snapshots }
criterion_main!(benches);
