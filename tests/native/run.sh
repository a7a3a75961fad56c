#!/usr/bin/env bash
# Builds the CPU kernels without torch, plain and under sanitizers, and runs the driver on them: one
# executable for each build and table of kernels, all of them or those named, as in "address/avx2".
# Environment: CXX, CSTA_SOURCES (the kernels' folder, default csrc), CSTA_OBJECTS (where setup.py has
# compiled the same sources: the plain builds test those objects and compile only what is not there).
set -euo pipefail
cd "$(dirname "$0")/../.."

compiler=${CXX:-c++}
sources=${CSTA_SOURCES:-csrc}
jobs=$(getconf _NPROCESSORS_ONLN)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

common="-std=c++17 -Wall -Wextra -Wno-psabi -pthread -I$sources"
arithmetic="-fno-math-errno -fno-trapping-math -ffp-contract=fast"  # these and -m... as in setup.py
# The 64-byte vectors of wide compile slowly; undefined behaviour shows in the others as well.
declare -A isa_flags=([portable]="" [wide]="-fno-sanitize=undefined")
declare -A tables=([portable]=kPortable [wide]=kWide [avx2]=kAvx2 [avx512]=kAvx512)
if [[ $(uname -m) == x86_64 ]]; then
  isa_flags[avx2]="-mavx2 -mfma -mf16c -mbmi2"
  isa_flags[avx512]="-mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx2 -mfma -mf16c"
  isa_flags[avx512]+=" -Wno-maybe-uninitialized"
fi

# Exact scratch lets the address sanitizer see its ends and is full of NaN; the other builds have
# the library's own.
declare -A mode_flags=(
  [plain]="-O3"
  [address]="-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
  [thread]="-O1 -g1 -fsanitize=thread"
)
mode_flags[address]+=" -DCSTA_EXACT_SCRATCH -DCSTA_TEST_ADDRESSES"
if ! $compiler --version | grep -qi clang; then
  # Calls instead of inline checks halve the time to compile.
  mode_flags[address]+=" --param asan-instrumentation-with-call-threshold=0"
fi
# One in how many of the grid's shapes is run, for each dtype and layout.
declare -A every=([plain]=8 [address]=16 [thread]=150)

$compiler tests/native/probe.cpp -o "$build/probe"
mapfile -t isas < <("$build/probe")
widest=${isas[-1]}
for isa in avx2 avx512; do
  [[ " ${isas[*]} " == *" $isa "* ]] || echo "SKIP $isa: this processor does not have it"
done
if (($# > 0)); then
  pairs=("$@")
else
  pairs=("thread/$widest")
  for isa in "${isas[@]}"; do pairs+=("address/$isa" "plain/$isa"); done
  [[ $widest == avx512 ]] || pairs=("address/wide" "${pairs[@]}")
fi
[[ $widest == portable ]] || isa_flags[wide]+=" ${isa_flags[avx2]}"

compile() {  # mode or -, source, object, further flags
  local flags=-O2
  [[ $1 == - ]] || flags=${mode_flags[$1]}
  echo "$compiler $common $flags ${*:4} -c $2 -o $build/$3.o" >> "$build/compile"
}
for pair in "${pairs[@]}"; do
  mode=${pair%/*} isa=${pair#*/}
  files=("$sources/cpu/isa/kernels_"*"_$isa.cpp")
  [[ $isa == wide ]] && files=(tests/native/wide.cpp)
  for i in "${!files[@]}"; do
    name=$mode.$isa.kernels.$i made=${CSTA_OBJECTS:-}/${files[i]//\//.}.o
    if [[ $mode == plain && -n ${CSTA_OBJECTS:-} && -f $made ]]; then
      cp "$made" "$build/$name.o"
    else
      compile "$mode" "${files[i]}" "$name" "$arithmetic ${isa_flags[$isa]}"
    fi
  done
done
for mode in $(printf '%s\n' "${pairs[@]%/*}" | sort -u); do
  for file in driver cases environment; do
    compile "$mode" "tests/native/$file.cpp" "$mode.$file"
  done
  compile "$mode" "$sources/cpu/scratch.cpp" "$mode.scratch"
done
for isa in $(printf '%s\n' "${pairs[@]#*/}" | sort -u); do
  compile - tests/native/table.cpp "$isa.table" "-DCSTA_TABLES=${tables[$isa]}"
done
compile - tests/native/reference.cpp reference
xargs -P "$jobs" -d '\n' -I{} bash -c '{}' < "$build/compile"

for pair in "${pairs[@]}"; do
  mode=${pair%/*} isa=${pair#*/} name=$build/${pair/\//.}
  objects=("$name.kernels."*.o "$build/$isa.table.o" "$build/reference.o")
  for file in driver cases environment; do objects+=("$build/$mode.$file.o"); done
  [[ $mode == address ]] || objects+=("$build/$mode.scratch.o")
  # shellcheck disable=SC2086
  $compiler ${mode_flags[$mode]} -pthread "${objects[@]}" -o "$name"
  ending="echo FAIL $pair: the driver ended with status \$?"
  echo "$name $pair ${every[$mode]} > $name.log 2>&1 || $ending >> $name.log"
done > "$build/runs"
xargs -P "$jobs" -d '\n' -I{} bash -c '{}' < "$build/runs"

cat "$build"/*.log | tee "$build/all"
passed=$(grep -c '^PASS' "$build/all" || true)
failed=$(grep -c '^FAIL' "$build/all" || true)
echo "$passed passed, $failed failed"
# Every executable has a line for each of four dtypes and two layouts.
[[ $failed == 0 && $passed == $((8 * ${#pairs[@]})) ]]
