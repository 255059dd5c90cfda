//! What happens at the hooks of a small node, as bytes: a step is one byte that says what, two for a length, and a frame.

use redirect_abi::mark;
use redirect_prog::model::world::Party;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The endpoint sends the frame.
    From(Party),
    /// The frame goes to the endpoint, under a mark, from a party.
    To(Party, Party, u32),
    /// Another policy comes into force. The frame says nothing.
    Policy(Policy),
    /// All flows are cut, as the loader does it when their policy has gone.
    Cut,
    /// A minute passes, and a second.
    Wait,
}

/// What B may be sent by A; where it is not open, nothing else may be sent by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Open,
    Everything,
    Inspected,
    Nothing,
}

/// The numbers of the steps: seeds depend on them.
pub const STEPS: [Step; 14] = [
    Step::From(Party::A),
    Step::From(Party::B),
    Step::To(Party::B, Party::Host, 0),
    Step::To(Party::B, Party::Outside, 0),
    Step::To(Party::B, Party::Host, mark::PROXY_UPSTREAM),
    Step::To(Party::A, Party::Host, mark::PROXY_DOWNSTREAM),
    Step::To(Party::B, Party::A, mark::CHECKED),
    Step::Policy(Policy::Open),
    Step::Policy(Policy::Everything),
    Step::Policy(Policy::Inspected),
    Step::Policy(Policy::Nothing),
    Step::Cut,
    Step::Wait,
    Step::To(Party::A, Party::Host, 0),
];

/// The steps of an input. A frame ends with the input at the latest.
pub fn read(mut input: &[u8]) -> impl Iterator<Item = (Step, &[u8])> {
    std::iter::from_fn(move || {
        let ([number, high, low], rest) = input.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let frame;
        (frame, input) = rest.split_at(len);
        Some((STEPS[usize::from(*number) % STEPS.len()], frame))
    })
}

/// The other way, for seeds.
pub fn write(steps: &[(Step, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (step, frame) in steps {
        let number = STEPS.iter().position(|known| known == step).expect("a step with a number");
        bytes.push(u8::try_from(number).expect("few steps"));
        bytes.extend(u16::try_from(frame.len()).expect("a short frame").to_be_bytes());
        bytes.extend(*frame);
    }
    bytes
}
