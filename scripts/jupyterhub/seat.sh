#!/bin/sh
# A student's server, started by JupyterHub as that student: lessons into ~/r1lab, what is there
# already stays; results go to ~/r1lab/runs, progress to the class's folder where there is one.
set -eu
bin=$(dirname "$0")/../../.venv/bin
"$bin/r1lab" init "$HOME/r1lab"
cd "$HOME/r1lab"
# The Littlest's account of ada is jupyter-ada; the instructor's table has ada.
R1LAB_PROGRESS=${R1LAB_CLASS:-/srv/class}/${JUPYTERHUB_USER:-$(id -un)}.json
[ ! -w "${R1LAB_PROGRESS%/*}" ] || export R1LAB_PROGRESS
exec "$bin/jupyterhub-singleuser" "$@"
