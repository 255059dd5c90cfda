//! Instructions of a small program, with labels for its jumps. Pure.

use crate::sys::Instruction;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    R0,
    R1,
    R2,
    R3,
    R6,
    R7,
    R8,
    R9,
    /// The end of the stack.
    Frame,
}

/// How many bytes a load or a store moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Byte,
    Half,
    Word,
    Double,
}

/// A place to jump to: made first, put somewhere later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// Functions of the kernel, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Helper {
    MapLookup,
    ProbeReadKernel,
}

#[derive(Debug, Default)]
pub(crate) struct Assembler {
    instructions: Vec<Instruction>,
    /// Where each label was put.
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

// Classes and modes of the kernel's `bpf.h`.
const LOAD: u8 = 0x61;
const STORE_IMMEDIATE: u8 = 0x62;
const STORE: u8 = 0x63;
const ADD_IMMEDIATE: u8 = 0x07;
const ADD: u8 = 0x0f;
const AND_IMMEDIATE: u8 = 0x57;
const MOVE: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const LOAD_DOUBLE_IMMEDIATE: u8 = 0x18;
const PSEUDO_MAP_DESCRIPTOR: u8 = 1;
const ATOMIC_ADD_DOUBLE: u8 = 0xdb;
const JUMP: u8 = 0x05;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_DIFFERENT: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

impl Register {
    fn number(self) -> u8 {
        match self {
            Self::R0 => 0,
            Self::R1 => 1,
            Self::R2 => 2,
            Self::R3 => 3,
            Self::R6 => 6,
            Self::R7 => 7,
            Self::R8 => 8,
            Self::R9 => 9,
            Self::Frame => 10,
        }
    }
}

impl Size {
    fn bits(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }
}

impl Assembler {
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label stands for what comes next.
    pub(crate) fn put(&mut self, label: Label) {
        let here = self.instructions.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(here);
        }
    }

    pub(crate) fn load(&mut self, size: Size, to: Register, from: Register, offset: i16) {
        self.push(LOAD | size.bits(), to, Some(from), offset, 0);
    }

    pub(crate) fn store(&mut self, size: Size, to: Register, offset: i16, from: Register) {
        self.push(STORE | size.bits(), to, Some(from), offset, 0);
    }

    pub(crate) fn store_value(&mut self, size: Size, to: Register, offset: i16, value: i32) {
        self.push(STORE_IMMEDIATE | size.bits(), to, None, offset, value);
    }

    pub(crate) fn copy(&mut self, to: Register, from: Register) {
        self.push(MOVE, to, Some(from), 0, 0);
    }

    pub(crate) fn set(&mut self, to: Register, value: i32) {
        self.push(MOVE_IMMEDIATE, to, None, 0, value);
    }

    pub(crate) fn add(&mut self, to: Register, other: Register) {
        self.push(ADD, to, Some(other), 0, 0);
    }

    pub(crate) fn add_value(&mut self, to: Register, value: i32) {
        self.push(ADD_IMMEDIATE, to, None, 0, value);
    }

    pub(crate) fn and_value(&mut self, to: Register, value: i32) {
        self.push(AND_IMMEDIATE, to, None, 0, value);
    }

    /// Adds to eight bytes of memory at once, whatever else runs.
    pub(crate) fn add_to_memory(&mut self, at: Register, from: Register) {
        self.push(ATOMIC_ADD_DOUBLE, at, Some(from), 0, 0);
    }

    /// The map of this descriptor.
    pub(crate) fn map(&mut self, to: Register, descriptor: i32) {
        self.instructions.push(Instruction {
            code: LOAD_DOUBLE_IMMEDIATE,
            registers: to.number() | PSEUDO_MAP_DESCRIPTOR << 4,
            offset: 0,
            immediate: descriptor,
        });
        self.instructions.push(Instruction { code: 0, registers: 0, offset: 0, immediate: 0 });
    }

    pub(crate) fn call(&mut self, helper: Helper) {
        let number = match helper {
            Helper::MapLookup => 1,
            Helper::ProbeReadKernel => 113,
        };
        self.push(CALL, Register::R0, None, 0, number);
    }

    pub(crate) fn jump(&mut self, to: Label) {
        self.jump_by(JUMP, Register::R0, 0, to);
    }

    pub(crate) fn jump_if_equal(&mut self, register: Register, value: i32, to: Label) {
        self.jump_by(JUMP_IF_EQUAL, register, value, to);
    }

    pub(crate) fn jump_if_different(&mut self, register: Register, value: i32, to: Label) {
        self.jump_by(JUMP_IF_DIFFERENT, register, value, to);
    }

    pub(crate) fn exit(&mut self) {
        self.push(EXIT, Register::R0, None, 0, 0);
    }

    /// `None`: a label was not put anywhere, or is too far away.
    pub(crate) fn finish(mut self) -> Option<Vec<Instruction>> {
        for (at, label) in self.jumps {
            let target = i64::try_from((*self.labels.get(label.0)?)?).ok()?;
            let distance = target - i64::try_from(at).ok()? - 1;
            self.instructions.get_mut(at)?.offset = i16::try_from(distance).ok()?;
        }
        Some(self.instructions)
    }

    fn jump_by(&mut self, code: u8, register: Register, value: i32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(code, register, None, 0, value);
    }

    fn push(&mut self, code: u8, to: Register, from: Option<Register>, offset: i16, immediate: i32) {
        let registers = to.number() | from.map_or(0, Register::number) << 4;
        self.instructions.push(Instruction { code, registers, offset, immediate });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(instruction: &Instruction) -> [u8; 8] {
        let Instruction { code, registers, offset, immediate } = instruction;
        let ([o0, o1], [i0, i1, i2, i3]) = (offset.to_le_bytes(), immediate.to_le_bytes());
        [*code, *registers, o0, o1, i0, i1, i2, i3]
    }

    #[test]
    fn instructions_are_those_of_the_kernels_manual() {
        let mut assembler = Assembler::default();
        let end = assembler.label();
        assembler.load(Size::Double, Register::R6, Register::R1, 8);
        assembler.store(Size::Word, Register::Frame, -4, Register::R1);
        assembler.and_value(Register::R2, 0x0f00);
        assembler.jump_if_equal(Register::R0, 7, end);
        assembler.map(Register::R1, 5);
        assembler.put(end);
        assembler.exit();
        let program: Vec<_> = assembler.finish().unwrap().iter().map(bytes).collect();
        assert_eq!(
            program,
            [
                [0x79, 0x16, 8, 0, 0, 0, 0, 0],
                [0x63, 0x1a, 0xfc, 0xff, 0, 0, 0, 0],
                [0x57, 0x02, 0, 0, 0, 0x0f, 0, 0],
                [0x15, 0x00, 2, 0, 7, 0, 0, 0],
                [0x18, 0x11, 0, 0, 5, 0, 0, 0],
                [0; 8],
                [0x95, 0, 0, 0, 0, 0, 0, 0],
            ]
        );
    }

    #[test]
    fn a_label_that_was_not_put_is_refused() {
        let mut assembler = Assembler::default();
        let nowhere = assembler.label();
        assembler.jump(nowhere);
        assert_eq!(assembler.finish(), None);
    }
}
