//! The rehearsed device against what a real one does: what it computes, what it refuses, and what ends a process.

#![allow(clippy::unwrap_used)]

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use tch::{Cuda, Device, Kind, Tensor};

const INSIDE: &str = "ESTA_REHEARSAL_TEST";
const DEVICE: Device = Device::Cuda(0);
const SIGSEGV: i32 = 11;

/// Runs a test's body in a process of its own that has the device; in that process, the body.
fn on_the_device(test: &str, body: fn()) -> Option<Output> {
    if env::var_os(INSIDE).is_some() {
        body();
        return None;
    }
    let mut program = Command::new(env::current_exe().unwrap());
    program.args([test, "--exact", "--nocapture"]).env(INSIDE, "1").env("LD_PRELOAD", esta_rehearsal::library());
    Some(program.env("ESTA_REHEARSAL_MIB", "1024").output().unwrap())
}

fn passes(test: &str, body: fn()) {
    if let Some(output) = on_the_device(test, body) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn there_is_one_device_and_none_without_the_library() {
    if env::var_os(INSIDE).is_none() {
        assert!(!Cuda::is_available());
    }
    passes("there_is_one_device_and_none_without_the_library", || assert_eq!(Cuda::device_count(), 1));
}

#[test]
fn numbers_and_gradients_are_those_of_the_host() {
    passes("numbers_and_gradients_are_those_of_the_host", || {
        let run = |device: Device| {
            tch::manual_seed(5);
            let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_device(device);
            let (x, w) = (random(&[3, 7, 32]), random(&[32, 32]).set_requires_grad(true));
            let scale = random(&[32]).set_requires_grad(true);
            let h = x
                .linear::<Tensor>(&w, None)
                .layer_norm([32], Some(scale.shallow_clone()), None::<Tensor>, 1e-5, false)
                .silu();
            let heads = h.view([3, 7, 4, 8]).transpose(1, 2);
            let h =
                Tensor::scaled_dot_product_attention::<Tensor>(&heads, &heads, &heads, None, 0.0, true, None, false);
            let loss = h.transpose(1, 2).flatten(2, 3).gelu("none").mean(Kind::Float);
            let gradients = Tensor::run_backward(&[&loss], &[&w, &scale], false, false);
            gradients.iter().map(|gradient| gradient.to_device(Device::Cpu)).collect::<Vec<_>>()
        };
        assert_eq!(run(Device::Cpu), run(DEVICE));
    });
}

#[test]
fn views_share_memory_and_may_be_written_to() {
    passes("views_share_memory_and_may_be_written_to", || {
        let tensor = Tensor::zeros([2, 3], (Kind::Int64, DEVICE));
        let mut row = tensor.select(0, 1);
        row += 5;
        tensor.narrow(1, 0, 1).copy_(&Tensor::from_slice(&[7_i64, 8]).view([2, 1]));
        let all = Vec::<i64>::try_from(tensor.to_device(Device::Cpu).view(-1)).unwrap();
        assert_eq!(all, [7, 0, 0, 8, 5, 5]);
    });
}

#[test]
fn operands_on_two_devices_are_refused() {
    passes("operands_on_two_devices_are_refused", || {
        let (here, there) =
            (Tensor::ones([2, 2], (Kind::Float, Device::Cpu)), Tensor::ones([2, 2], (Kind::Float, DEVICE)));
        for refused in
            [here.f_add(&there), there.f_matmul(&here), there.f_index_select(0, &Tensor::from_slice(&[0_i64]))]
        {
            let error = refused.err().unwrap().to_string();
            assert!(error.contains("same device") || error.contains("two devices"), "{error}");
        }
        assert_eq!(f64::try_from((there * Tensor::from(2.0_f32)).sum(Kind::Float)).unwrap(), 8.0);
    });
}

#[test]
fn fresh_memory_holds_nothing_one_may_rely_on_and_ends() {
    passes("fresh_memory_holds_nothing_one_may_rely_on_and_ends", || {
        let fresh = Tensor::empty([64], (Kind::Float, DEVICE));
        assert_eq!(i64::try_from(fresh.isnan().sum(Kind::Int64)).unwrap(), 64);
        let most = Tensor::empty([3 << 28], (Kind::Uint8, DEVICE));
        let error = Tensor::f_empty([1 << 29], (Kind::Uint8, DEVICE)).err().unwrap().to_string();
        assert!(error.contains("CUDA out of memory"), "{error}");
        drop(most);
        assert!(Tensor::f_empty([1 << 29], (Kind::Uint8, DEVICE)).is_ok());
    });
}

#[test]
fn a_host_that_reads_the_devices_memory_is_ended() {
    let test = "a_host_that_reads_the_devices_memory_is_ended";
    let read = || {
        let tensor = Tensor::ones([4], (Kind::Float, DEVICE));
        // SAFETY: none: that is what the test is about.
        let first = unsafe { *tensor.data_ptr().cast::<f32>() };
        println!("the host read {first}");
    };
    if let Some(output) = on_the_device(test, read) {
        assert_eq!(output.status.signal(), Some(SIGSEGV), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
