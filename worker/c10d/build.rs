//! Compiles the C++ shim against `$LIBTORCH`: Gloo always, NCCL under the feature `cuda`.

use std::path::{Path, PathBuf};

fn main() {
    for input in ["build.rs", "shim", "src/bridge.rs"] {
        println!("cargo:rerun-if-changed={input}");
    }
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = PathBuf::from(std::env::var("LIBTORCH").expect(
        "LIBTORCH names the folder with libtorch's include/ and lib/; scripts/provision-libtorch.sh makes one",
    ));

    let mut build = cxx_build::bridge("src/bridge.rs");
    build
        .std("c++17")
        .include("shim")
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        .define("USE_C10D_GLOO", None)
        .warnings(false)
        .file("shim/group.cpp")
        .file("shim/store.cpp")
        .file("shim/version.cpp")
        .file("shim/reproducible.cpp")
        .file("shim/gloo.cpp");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        build.define("USE_C10D_NCCL", None).includes(nccl_headers(&libtorch)).file("shim/nccl.cpp");
        // ProcessGroupNCCL lives in libtorch_cuda alone.
        println!("cargo:rustc-link-search=native={}", libtorch.join("lib").display());
        println!("cargo:rustc-link-lib=torch_cuda");
        println!("cargo:rustc-link-lib=c10_cuda");
    } else {
        build.file("shim/nccl_absent.cpp");
    }
    build.compile("esta_c10d_shim");
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
}

/// Where the full CUDA install keeps the headers of NCCL and CUDA.
fn nccl_headers(libtorch: &Path) -> [PathBuf; 3] {
    let nvidia = libtorch.join("nvidia");
    assert!(
        nvidia.join("nccl/include/nccl.h").exists(),
        "the feature `cuda` needs NCCL's headers under {}: run scripts/provision-cuda-headers.sh, or DEVICE=cuda scripts/provision-libtorch.sh to link too",
        nvidia.display()
    );
    ["nccl/include", "cu13/include", "cu13/include/cccl"].map(|folder| nvidia.join(folder))
}
