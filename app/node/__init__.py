"""The node program: installs, checks, mends and takes back Go releases on one machine.

Standard library only, Python 3.9 and newer. Imports nothing of `app` outside this folder, and by
relative imports alone: the folder is copied into the zipapp and into the Ansible collection.
"""

VERSION = "0.1.0"
