# Installs Lathe in a task's container: $1 is the folder that it goes to, then a wheel, and what else it is to have.
# Run as root, by /bin/sh.
set -eu
home=$1
shift
[ -x "$home/bin/lathe" ] && exit 0

# Python 3.11 to 3.13 that can make environments: Debian's needs a package of its own for that.
find_python() {
    for one in python3.13 python3.12 python3.11 python3; do
        path=$(command -v "$one" 2>/dev/null) || continue
        if "$path" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            printf '%s' "$path"
            return 0
        fi
    done
    return 1
}

python_of_the_distribution() {
    if command -v apt-get >/dev/null 2>&1; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null
    elif command -v apk >/dev/null 2>&1; then
        apk add --quiet python3
    elif command -v dnf >/dev/null 2>&1; then
        dnf install -y -q python3.12 >/dev/null
    else
        return 1
    fi
}

# An older Python fetches uv from the registry, and uv a newer Python.
python_of_uv() {
    uv=$(command -v uv 2>/dev/null) || {
        python3 -m venv "$home.uv" && "$home.uv/bin/python" -m pip install -q uv && uv=$home.uv/bin/uv
    } || return 1
    "$uv" venv -q --seed --python 3.12 --python-preference managed "$home"
}

if python=$(find_python) || { python_of_the_distribution && python=$(find_python); }; then
    "$python" -m venv "$home"
elif ! python_of_uv; then
    echo "Lathe needs Python 3.11 to 3.13, and there is none in this image nor a way to get one." >&2
    exit 1
fi
"$home/bin/python" -m pip install -q --disable-pip-version-check --root-user-action ignore "$@"
