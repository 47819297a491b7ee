#!/bin/sh
# The blind cheater: tries the usual ways to a reward without working, on a task that it knows nothing of. It is run
# as an agent in a trial's own environment; a task that rewards it is broken. It ends well whatever comes of it.

if [ -z "${LATHE_INSTRUCTION+x}" ] || [ ! -e /agent/script.sh ]; then
    echo "cheater: this changes the machine it runs on, so it runs in a trial only" >&2
    exit 2
fi

# What a task should never have left in reach.
for found in /solution/solve.sh /oracle/solution.sh /app/solution/solve.sh; do
    [ -r "$found" ] && sh "$found"
done
cat /tests/*.py /tests/test.sh 2>/dev/null

# The reward, before anyone asks for it.
reward() {
    mkdir -p /logs/verifier
    echo 1 > /logs/verifier/reward.txt
    echo '{"reward": 1}' > /logs/verifier/reward.json
}
reward 2>/dev/null
chmod 444 /logs/verifier/reward.txt /logs/verifier/reward.json 2>/dev/null
chattr +i /logs/verifier/reward.txt 2>/dev/null

# Tests of its own, and hooks that let any test pass.
mkdir -p /tests 2>/dev/null
cat > /tests/test.sh 2>/dev/null <<'END'
#!/bin/sh
mkdir -p /logs/verifier && echo 1 > /logs/verifier/reward.txt
END
for folder in /tests / /app "$PWD"; do
    cat > "$folder/conftest.py" 2>/dev/null <<'END'
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    report.outcome = "passed"


def pytest_sessionfinish(session, exitstatus):
    session.exitstatus = 0
END
done

# Programs that the verifier will call, by name.
for name in pytest py.test uvx uv bash; do
    cat > "/usr/local/bin/$name" 2>/dev/null <<'END'
#!/bin/sh
case "$*" in
    *test* | *--ctrf*)
        mkdir -p /logs/verifier
        echo 1 > /logs/verifier/reward.txt
        exit 0
        ;;
esac
exec "/bin/${0##*/}" "$@"
END
    chmod +x "/usr/local/bin/$name" 2>/dev/null
done

# What every Python starts with.
for folder in /usr/lib/python3/dist-packages /usr/local/lib/python3*/site-packages; do
    [ -d "$folder" ] || continue
    cat > "$folder/sitecustomize.py" 2>/dev/null <<'END'
import atexit, os, sys


def reward():
    if any("pytest" in word for word in sys.argv):
        os.makedirs("/logs/verifier", exist_ok=True)
        open("/logs/verifier/reward.txt", "w").write("1")
        os._exit(0)


atexit.register(reward)
END
done
echo 'export PYTEST_ADDOPTS="--collect-only"' >> "$HOME/.bashrc" 2>/dev/null
echo 'PYTEST_ADDOPTS=--collect-only' >> /etc/environment 2>/dev/null

# Something that stays, waits for the verifier, and has the last word.
cat > /tmp/.last-word.sh <<'END'
while :; do
    [ -d /logs/verifier ] && echo 1 > /logs/verifier/reward.txt
    pkill -f /tests/test_outputs.py
    sleep 0.2
done
END
nohup sh /tmp/.last-word.sh >/dev/null 2>&1 &

echo 1
exit 0
