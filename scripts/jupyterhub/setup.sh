#!/usr/bin/env bash
# One machine, many browsers: The Littlest JupyterHub with r1lab, on a fresh Ubuntu (22.04 or newer)
# or Debian of its own. From a clone of the project, as root; the first name is the instructor's:
#
#   bash scripts/jupyterhub/setup.sh rosa ada bob         reached through ssh alone (127.0.0.1, port 80)
#   DOMAIN=hub.example.org EMAIL=rosa@example.org bash scripts/jupyterhub/setup.sh rosa ada bob
#                                                  with TLS by Let's Encrypt, ports 80 and 443
#   bash scripts/jupyterhub/setup.sh --config rosa ada    print the hub's settings, and do nothing
#
# MEMORY=3G CPU=1   the most that each student gets
# Passwords are in /root/class.csv. Run again with other names, it keeps those that are there.
set -euo pipefail

TLJH=2.0.0
BOOTSTRAP=f97d6db8cb0707c188baf988169bc2bd34e6091c5f1761016d7c4efee9563fa9 # its SHA-256
PROJECT=/srv/r1lab

fail() { printf 'r1lab: error: %s\n' "$*" >&2; exit 1; }

settings() { # The Littlest JupyterHub's config.yaml
  if [ -n "${DOMAIN:-}" ]; then
    printf 'https: {enabled: true, letsencrypt: {email: "%s", domains: ["%s"]}}\n' "$EMAIL" "$DOMAIN"
  else
    printf 'http: {address: 127.0.0.1, port: 80}\n' # plain HTTP: nothing but ssh may lead there
  fi
  printf 'limits: {memory: %s, cpu: %s}\n' "${MEMORY:-3G}" "${CPU:-1}"
  printf 'services: {cull: {timeout: 7200}}\n'
  printf 'users: {admin: [%s], allowed: [%s]}\n' "$1" "${2:-}"
}

only_print=
[ "${1:-}" != --config ] || { only_print=yes; shift; }
[ $# -gt 0 ] || fail "name the instructor, then the students: bash scripts/jupyterhub/setup.sh rosa ada bob"
for name in "$@"; do
  [[ $name =~ ^[a-z][a-z0-9-]{0,19}$ ]] || fail "'$name': a name is of a-z, 0-9 and -, 20 at most"
done
if [ -n "${DOMAIN:-}" ]; then
  [[ $DOMAIN =~ ^[A-Za-z0-9.-]+$ && ${EMAIL:-} =~ ^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$ ]] ||
    fail "DOMAIN needs EMAIL, an address that Let's Encrypt may write to"
fi
admin=$1
shift
students=$(IFS=,; printf '%s' "$*")
if [ -n "$only_print" ]; then
  settings "$admin" "$students"
  exit 0
fi
[ "$(id -u)" = 0 ] || fail "this sets up a machine: run it as root"
[ -f constraints.txt ] || fail "run it in the project's folder"

config=/opt/tljh/config
if command -v tljh-config >/dev/null && [ ! -e "$config/jupyterhub_config.d/r1lab.py" ]; then
  fail "there is a JupyterHub here that this has not set up, and its settings would be lost"
fi
[ ! -e "$PROJECT" ] || [ -e "$PROJECT/scripts/jupyterhub/setup.sh" ] ||
  fail "$PROJECT is another project's: move it away"

# 1. The project, readable by all; as a wheel, so that each student's results land in their folder.
apt-get update -q && apt-get install -y -q git make g++ curl python3-venv
mkdir -p "$PROJECT"
if [ "$PWD" != "$PROJECT" ]; then
  git -c safe.directory="$PWD" ls-files -z | tar --null -T - -c | tar -x -C "$PROJECT"
fi
make -C "$PROJECT" setup
venv=$PROJECT/.venv/bin/python
"$venv" -m pip install -q --no-deps --no-build-isolation --force-reinstall "$PROJECT"

# 2. The hub, for the instructor alone and on 127.0.0.1: no moment at which it answers strangers, who
#    would give an account its password by being the first to log in.
if ! command -v tljh-config >/dev/null; then
  install -d -m 700 "$config" "$config/jupyterhub_config.d"
  cp "$PROJECT/scripts/jupyterhub/settings.py" "$config/jupyterhub_config.d/r1lab.py"
  DOMAIN='' settings "$admin" >"$config/config.yaml"
  curl -fsSL -o /root/tljh.py \
    "https://raw.githubusercontent.com/jupyterhub/the-littlest-jupyterhub/$TLJH/bootstrap/bootstrap.py"
  echo "$BOOTSTRAP  /root/tljh.py" | sha256sum --check --quiet
  python3 /root/tljh.py --version "$TLJH" --admin "$admin"
fi
hub=/opt/tljh/hub/bin/python
"$venv" -m pip install -q -c "$PROJECT/constraints.txt" \
  "jupyterhub==$("$hub" -c 'import jupyterhub; print(jupyterhub.__version__)')"

# 3. A password for each, a folder for progress (written by all, listed by root); then the world.
install -d -m 1733 /srv/class
(cd /opt/tljh/state && "$hub" "$PROJECT/scripts/jupyterhub/passwords.py" /root/class.csv "$admin" "$@")
cp "$PROJECT/scripts/jupyterhub/settings.py" "$config/jupyterhub_config.d/r1lab.py"
settings "$admin" "$students" >"$config/config.yaml"
tljh-config reload hub
tljh-config reload proxy
echo "r1lab: the hub is at ${DOMAIN:-127.0.0.1, port 80}; passwords: /root/class.csv"
