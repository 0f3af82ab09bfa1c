"""`python -m modelport`"""

from modelport.cli.main import main

main()
