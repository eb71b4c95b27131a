"""JupyterHub's settings for r1lab; setup.sh lays this file into the hub's configuration.

A student's server is the project's own JupyterLab with its pinned packages, started by seat.sh.
"""

c = get_config()  # noqa: F821, JupyterHub provides it
c.Spawner.cmd = ["/srv/r1lab/scripts/jupyterhub/seat.sh"]
c.Spawner.default_url = "/lab/tree/notebooks/00_start_here.ipynb"
c.Spawner.start_timeout = c.Spawner.http_timeout = 120  # the first time lessons are laid out
c.Spawner.environment = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",  # cores are shared
    "OMP_WAIT_POLICY": "PASSIVE",
}
