//! What a device calls itself (HANDS), as Linux tells it: a latency without its hardware means little.

use std::fs;

use tch::Device;

/// The processor's or the card's own name; `None` where the system does not tell.
#[must_use]
pub fn name(device: Device) -> Option<String> {
    match device {
        Device::Cpu => first_of(&fs::read_to_string("/proc/cpuinfo").ok()?, "model name"),
        // The driver's numbers are not libtorch's: a name is told where all cards have the same.
        Device::Cuda(_) => {
            let cards = fs::read_dir("/proc/driver/nvidia/gpus").ok()?.filter_map(Result::ok);
            let model =
                |card: fs::DirEntry| first_of(&fs::read_to_string(card.path().join("information")).ok()?, "Model");
            let mut models: Vec<String> = cards.filter_map(model).collect();
            models.dedup();
            models.pop().filter(|_| models.is_empty())
        }
        _ => None,
    }
}

/// The value of the first line `key : value`.
fn first_of(text: &str, key: &str) -> Option<String> {
    let value = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    };
    text.lines().find_map(value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_key() {
        let text = "processor\t: 0\nmodel name\t: A CPU @ 2.0GHz\nmodel name\t: another\n";
        assert_eq!(first_of(text, "model name").as_deref(), Some("A CPU @ 2.0GHz"));
        assert_eq!(first_of(text, "Model"), None);
    }
}
