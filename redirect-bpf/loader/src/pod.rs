//! Lets the types of the ABI be keys and values of aya's maps.

use redirect_abi::{
    Account, Address, Endpoint, FlowKey, FlowState, IpcacheKey, Neighbour, Payer, PolicyKey, PolicyValue,
    Pool, Quota, Settings, SocketBuffer,
};

/// A type of the ABI, byte for byte.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Raw<T>(pub(crate) T);

macro_rules! plain_data {
    ($($abi:ty),*) => {
        $(
            // SAFETY: `repr(C)` integers and byte arrays with explicit padding: every bit pattern is a value, no byte is undefined.
            unsafe impl aya::Pod for Raw<$abi> {}
        )*
    };
}

plain_data!(
    Account,
    Address,
    Endpoint,
    FlowKey,
    FlowState,
    IpcacheKey,
    Neighbour,
    Payer,
    PolicyKey,
    PolicyValue,
    Pool,
    Quota,
    Settings,
    SocketBuffer
);
