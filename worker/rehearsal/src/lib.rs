//! A CUDA device made of host memory: the path of a GPU, rehearsed on machines that have none (room: HANDS).
//!
//! The library of this crate is preloaded (by tests, and by `scripts/rehearse.sh`) into a process that links the CPU's libtorch,
//! and registers there what `libtorch_cuda` would: an allocator, a device guard, the hooks, operators, and a process group in
//! NCCL's place. The process then has one device, `cuda:0`, and takes every step that it takes on a real one. What is shown by it and what is not:
//!
//! - Memory of the device cannot be read by the host: a pointer that is followed outside an operator ends the process.
//! - Operands on different devices are refused as CUDA refuses them; fresh memory is filled with NaN.
//! - A collective moves tensors of the device alone and can be aborted.
//! - Numbers are those of the host's operators: a run ends with the bits of the same run on the CPU.
//! - Kernels, streams that run beside the host, NCCL itself and speed are not rehearsed.
//!
//! Attention takes libtorch's plain form, on the device because it has no other, and on the CPU so that both can be compared:
//! the library is preloaded for a run on the CPU too.

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::{mem, ptr};

/// The library that plays the device, for `LD_PRELOAD`.
pub fn library() -> &'static Path {
    Path::new(env!("ESTA_REHEARSAL_LIBRARY"))
}

/// The most bytes of the device that were in use at once in this process since this was last asked; none where the library is
/// not loaded.
#[must_use]
pub fn take_peak() -> Option<u64> {
    unsafe extern "C" {
        fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    const NAME: &CStr = c"esta_rehearsal_take_peak";
    // SAFETY: a null handle asks all libraries of the process, for a name that ends in a zero.
    let found = unsafe { dlsym(ptr::null_mut(), NAME.as_ptr()) };
    // SAFETY: the library of this very crate has that name for a function without arguments.
    let take: extern "C" fn() -> u64 = (!found.is_null()).then(|| unsafe { mem::transmute(found) })?;
    Some(take())
}
