//! Makes the library that is preloaded. It is linked by hand, since cargo has no name for a shared library of C++ alone.

use std::env;
use std::path::PathBuf;

const SOURCES: [&str; 4] = ["device/arena.cpp", "device/runtime.cpp", "device/operators.cpp", "device/group.cpp"];

fn main() {
    println!("cargo:rerun-if-changed=device");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let variable = |name: &str| PathBuf::from(env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
    let (libtorch, out) = (variable("LIBTORCH"), variable("OUT_DIR"));
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .pic(true)
        .opt_level(2)
        .warnings(false)
        .define("USE_C10D_GLOO", None)
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        .files(SOURCES);
    let objects = build.compile_intermediates();
    let (library, folder) = (out.join("libesta_rehearsal.so"), libtorch.join("lib"));
    let mut link = build.get_compiler().to_command();
    link.args(&objects).arg("-shared").arg("-o").arg(&library).arg("-L").arg(&folder).args(["-ltorch_cpu", "-lc10"]);
    // Programs that do not link libtorch themselves, and start others that do, find it too.
    link.arg(format!("-Wl,-rpath,{}", folder.display()));
    let linked = link.status().expect("the C++ compiler starts");
    assert!(linked.success(), "{} was not linked: {linked}", library.display());
    println!("cargo:rustc-env=ESTA_REHEARSAL_LIBRARY={}", library.display());
}
