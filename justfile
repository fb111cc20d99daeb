# `just check` is what continuous integration runs. The recipes only name scripts: nothing here needs just.

# Every check, with its own set-up.
check:
    ./.ci/check

# Build, start a registry, build the example images, push, pull and run them.
quickstart:
    ./examples/quickstart.sh

# The release binary: static and at a fixed address, so that an idle supervisor costs next to nothing (docs/adr/0002).
build:
    ./.ci/release

# Start-up time and idle memory beside podman, crun and plain wasmtime.
bench: build
    ./benches/start.sh

# The runtime command line beside crun, runc and a bare floor.
bench-oci: build
    ./benches/oci.sh

# Programs in five languages and SQLite, as Wasm guests; their compilers come with it.
guests:
    cargo test --locked --test stories wasm_guests

# Only the rules of the house.
tidy:
    cargo test --locked --test tidy
