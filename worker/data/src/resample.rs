//! PIL's antialiased bicubic resize (HANDS), to the bit: timm and torchvision resize through it.
//!
//! Two passes, horizontal then vertical, each with weights in fixed point and its result rounded to 8 bits. Pillow 13
//! takes some images vertically first (its pull request 9549), which differs by a few levels where overshoot is clipped;
//! the published anchors were trained with the order kept here.

use crate::pixels::Pixels;

/// Fraction bits of a weight: 32 less the 8 of an intensity and 2 for the overshoot of negative lobes.
const PRECISION: u32 = 22;
/// Half-width of the kernel in output pixels, or in input pixels when enlarging.
const SUPPORT: f64 = 2.0;

/// The image at `height` x `width`, as PIL's `resize((width, height), BICUBIC)` makes it.
#[must_use]
pub fn resize(image: &Pixels, height: usize, width: usize) -> Pixels {
    let wide = if width == image.width { None } else { Some(horizontal(image, &taps(image.width, width))) };
    let image = wide.as_ref().unwrap_or(image);
    if height == image.height { image.clone() } else { vertical(image, &taps(image.height, height)) }
}

/// The inputs of one output: `weights[i]` belongs to input `first + i`.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

/// The taps of every output pixel along one axis.
fn taps(input: usize, output: usize) -> Vec<Tap> {
    let scale = input as f64 / output as f64;
    (0..output).map(|at| tap((at as f64 + 0.5) * scale, scale.max(1.0), input)).collect()
}

fn tap(center: f64, filter_scale: f64, input: usize) -> Tap {
    let support = SUPPORT * filter_scale;
    // The casts truncate as C's do; below zero they saturate at the border, which is where PIL clamps.
    let first = (center - support + 0.5) as usize;
    let end = ((center + support + 0.5) as usize).min(input);
    let inverse = 1.0 / filter_scale;
    let weights: Vec<f64> = (first..end).map(|x| cubic((x as f64 - center + 0.5) * inverse)).collect();
    let total: f64 = weights.iter().sum();
    Tap { first, weights: weights.into_iter().map(|weight| fixed(weight / total)).collect() }
}

/// Keys' cubic with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal(image: &Pixels, taps: &[Tap]) -> Pixels {
    let channels = image.channels;
    let mut bytes = Vec::with_capacity(image.height * taps.len() * channels);
    for row in image.bytes.chunks_exact(image.width * channels) {
        for tap in taps {
            for channel in 0..channels {
                let inputs = row[tap.first * channels + channel..].iter().step_by(channels);
                let sum = tap.weights.iter().zip(inputs).map(|(weight, &value)| weight * i32::from(value)).sum::<i32>();
                bytes.push(round(sum + (1 << (PRECISION - 1))));
            }
        }
    }
    Pixels { width: taps.len(), bytes, ..*image }
}

fn vertical(image: &Pixels, taps: &[Tap]) -> Pixels {
    let stride = image.width * image.channels;
    let mut bytes = Vec::with_capacity(taps.len() * stride);
    let mut sums = vec![0; stride];
    for tap in taps {
        sums.fill(1 << (PRECISION - 1));
        for (weight, row) in tap.weights.iter().zip(image.bytes[tap.first * stride..].chunks_exact(stride)) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * i32::from(value));
        }
        bytes.extend(sums.iter().map(|&sum| round(sum)));
    }
    Pixels { height: taps.len(), bytes, ..*image }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_every_output_sum_to_one() {
        for (input, output) in [(8, 28), (28, 8), (500, 224), (5, 224), (1, 3)] {
            for tap in taps(input, output) {
                let total: i32 = tap.weights.iter().sum();
                assert!((total - (1 << PRECISION)).abs() <= tap.weights.len() as i32, "{input} -> {output}: {total}");
                assert!(tap.first + tap.weights.len() <= input);
            }
        }
    }

    #[test]
    fn a_flat_image_stays_flat() {
        let image = Pixels { height: 7, width: 11, channels: 3, bytes: vec![200; 7 * 11 * 3] };
        let resized = resize(&image, 28, 5);
        assert_eq!(resized, Pixels { height: 28, width: 5, channels: 3, bytes: vec![200; 28 * 5 * 3] });
    }
}
