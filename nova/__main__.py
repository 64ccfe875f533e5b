from nova.daemon import main

main()
