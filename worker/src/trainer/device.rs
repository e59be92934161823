//! The libtorch device of a process (HANDS).

use esta_client::DeviceKind;
use tch::Device;
use thiserror::Error;

/// The device that was asked for is not there.
#[derive(Debug, Error)]
#[error(
    "--device cuda: this program or this machine has no CUDA device; build with --features cuda against a CUDA libtorch"
)]
pub struct DeviceError;

/// The libtorch device. On a GPU operators are held to the same bits for the same operands from here on: slots are run again, and
/// by other ranks (RD-4).
///
/// # Errors
/// [`DeviceError`] when there is none.
pub fn open_device(kind: DeviceKind) -> Result<Device, DeviceError> {
    match kind {
        DeviceKind::Cpu => Ok(Device::Cpu),
        DeviceKind::Cuda if tch::Cuda::is_available() => {
            esta_c10d::be_reproducible_on_cuda();
            Ok(Device::Cuda(0))
        }
        DeviceKind::Cuda => Err(DeviceError),
    }
}
