from bonefrac.cli import main

main()
